# python ./tools/train.py configs/pruning/autoslim/us_digits.py --work-dir W1
# Hardware: 2 CPU cores, under two minutes.
_base_ = [
    "../../_base_/datasets/digits.py",
    "../../_base_/models/slimmable_digits.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]

model = dict(width_range=(0.25, 1.0), val_widths=[1.0, 0.75, 0.5, 0.25])
train_dataloader = dict(dataset=dict(part="all"))
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(end=15)
train_cfg = dict(max_epochs=15, val_interval=15)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=16), checkpoint=dict(interval=5))
