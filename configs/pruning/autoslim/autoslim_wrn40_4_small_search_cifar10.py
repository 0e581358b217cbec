# python ./tools/search.py configs/pruning/autoslim/autoslim_wrn40_4_small_search_cifar10.py CKPT --work-dir W2
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = "./autoslim_wrn40_4_search_1xb128_cifar10.py"

model = dict(architecture=dict(backbone=dict(depth=16, widen=1), head=dict(in_channels=64)))
