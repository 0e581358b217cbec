# python -m benchmarks.claims --job ofa-scratch-0-s0
_base_ = "./ofa_supernet.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=dict(architecture=_base_._supernet, mutator=_base_._mutator),
    input_shape=_base_.model.input_shape,
    fix_subnet="work_dirs/claims/subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
