# python ./tools/train.py configs/pruning/autoslim/autoslim_mbv2_small_supernet_cifar10.py --work-dir W1
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
# MobileNetV2 at a size that a CPU trains: MobileNetV2 0.25x.
_base_ = "./autoslim_mbv2_supernet_1xb128_cifar10.py"

model = dict(architecture=dict(backbone=dict(widen_factor=0.25), head=dict(in_channels=320)))
