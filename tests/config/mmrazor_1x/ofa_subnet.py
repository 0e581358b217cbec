_base_ = "./ofa_supernet.py"

model = dict(
    _scope_="mmrazor",
    type="sub_model",
    cfg=_base_.supernet,
    fix_subnet="best_subnet.yaml",
    init_weight_from_supernet=False,
    init_cfg=dict(type="Pretrained", checkpoint="https://nowhere.invalid/subnet.pth", prefix="architecture."),
)
model_wrapper_cfg = None
test_cfg = dict(evaluate_fixed_subnet=True)
