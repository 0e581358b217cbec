# python ./tools/train.py configs/nas/spos/spos_supernet_digits.py --work-dir W1
# Hardware: 2 CPU cores, a minute or two.
_base_ = [
    "../../_base_/datasets/digits.py",
    "../../_base_/models/spos_digits.py",
    "../../_base_/schedules/spos_small.py",
    "../../_base_/runtime.py",
]

optim_wrapper = dict(optimizer=dict(lr=0.2))
param_scheduler = dict(end=40)
train_cfg = dict(max_epochs=40, val_interval=20)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=16), checkpoint=dict(interval=10))
