# python ./tools/search.py configs/pruning/autoslim/autoslim_resnet56_small_search_cifar10.py CKPT --work-dir W2
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = "./autoslim_resnet56_search_1xb128_cifar10.py"

model = dict(architecture=dict(backbone=dict(depth=20), head=dict(in_channels=64)))
