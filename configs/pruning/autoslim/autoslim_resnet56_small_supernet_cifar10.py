# python ./tools/train.py configs/pruning/autoslim/autoslim_resnet56_small_supernet_cifar10.py --work-dir W1
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
# ResNet-56 at a size that a CPU trains: ResNet-20.
_base_ = "./autoslim_resnet56_supernet_1xb128_cifar10.py"

model = dict(architecture=dict(backbone=dict(depth=20), head=dict(in_channels=64)))
