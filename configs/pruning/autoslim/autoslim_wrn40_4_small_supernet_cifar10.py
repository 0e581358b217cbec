# python ./tools/train.py configs/pruning/autoslim/autoslim_wrn40_4_small_supernet_cifar10.py --work-dir W1
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
# WRN-40-4 at a size that a CPU trains: WRN-16-1.
_base_ = "./autoslim_wrn40_4_supernet_1xb128_cifar10.py"

model = dict(architecture=dict(backbone=dict(depth=16, widen=1), head=dict(in_channels=64)))
