# python ./tools/train.py configs/pruning/autoslim/us_mbv2_8xb128_in1k.py --work-dir W1
# Hardware: 8 GPUs x 128 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: one model of any width from 0.35 to 1.0, 59.29 to 300.77 M macs. Published by the authors of US-Nets:
# 71.5 % top-1 at width 1.0, 65.1 % at 0.5 (97.13 M macs), 62.3 % at 0.35.
# Source of the values: slimmable_networks, apps/us_mobilenet_v2_train_val.yml.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/models/slimmable_mbv2.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]

model = dict(
    width_range=(0.35, 1.0),
    val_widths=[i / 40 for i in range(40, 13, -1)],
    distiller=dict(type="KLDivergence", tau=1.0, loss_weight=1.0),
    num_random_samples=2,
)
train_dataloader = dict(batch_size=128, dataset=dict(part="all"))
param_scheduler = dict(end=250)
train_cfg = dict(max_epochs=250, val_interval=10)
auto_scale_lr = dict(base_batch_size=1024)
