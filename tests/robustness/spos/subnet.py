# The subnet of a file, which --cfg-options names, retrained for an epoch.
_base_ = "./search.py"

model = dict(
    _delete_=True, type="sub_model", cfg=_base_.model, fix_subnet="", init_cfg=dict(type="Pretrained", checkpoint="")
)
search_cfg = None
train_cfg = dict(max_epochs=1)
param_scheduler = dict(end=1)
default_hooks = dict(checkpoint=dict(interval=1))
