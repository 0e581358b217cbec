# python -m benchmarks.claims --job spos-alone-00
_base_ = "./spos_supernet.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_base_.model,
    fix_subnet="work_dirs/claims/subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
