# python ./tools/train.py configs/pruning/autoslim/autoslim_mbv2_small_subnet_cifar10.py --work-dir W3 \
#   --cfg-options model.fix_subnet=W2/SUBNET.yaml
# With the supernet's weights: ... model.init_weight_from_supernet=True model.init_cfg.checkpoint=CKPT
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = "./autoslim_mbv2_subnet_1xb128_cifar10.py"

model = dict(
    cfg=dict(architecture=dict(backbone=dict(widen_factor=0.25), head=dict(in_channels=320))),
    fix_subnet="work_dirs/autoslim_mbv2_small_search_cifar10/SUBNET.yaml",
)
