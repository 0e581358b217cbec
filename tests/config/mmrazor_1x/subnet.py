_base_ = ["./supernet.py"]

model = dict(
    _delete_=True,
    _scope_="mmrazor",
    type="sub_model",
    cfg=_base_.supernet,
    input_shape=(3, 16, 16),
    fix_subnet="{{ fileDirname }}/fix_subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint="", prefix="architecture."),
)
model_wrapper_cfg = None
find_unused_parameters = False
val_cfg = dict(_delete_=True, type="mmrazor.SubnetValLoop", evaluate_fixed_subnet=True)
