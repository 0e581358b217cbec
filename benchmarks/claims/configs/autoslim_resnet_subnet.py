# python -m benchmarks.claims --job autoslim-resnet-found50-s0
_base_ = "./autoslim_resnet_supernet.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_base_.model,
    fix_subnet="work_dirs/claims/subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
