# python -m benchmarks.claims --job tfnas-found45-s0
# Trained alone, norms have statistics and parameters of their own again.
_base_ = "./tfnas_supernet.py"

_backbone = dict(_base_.model.architecture.backbone, norm_cfg=dict(type="BN"))
_net = dict(_base_.model.architecture, backbone=_backbone)
model = dict(
    _delete_=True,
    type="sub_model",
    cfg=dict(architecture=_net, mutator=_base_.model.mutator),
    input_shape=_base_.model.input_shape,
    fix_subnet="work_dirs/claims/subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
