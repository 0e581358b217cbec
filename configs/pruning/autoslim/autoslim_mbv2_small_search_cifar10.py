# python ./tools/search.py configs/pruning/autoslim/autoslim_mbv2_small_search_cifar10.py CKPT --work-dir W2
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = "./autoslim_mbv2_search_1xb128_cifar10.py"

model = dict(architecture=dict(backbone=dict(widen_factor=0.25), head=dict(in_channels=320)))
