# python ./tools/train.py configs/pruning/autoslim/us_mbv1_8xb128_in1k.py --work-dir W1
# Hardware: 8 GPUs x 128 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: one model of any width from 0.25 to 1.0, 41.03 to 568.74 M macs. Published by the authors of US-Nets:
# 71.8 % top-1 at width 1.0, 64.2 % at 0.5 (149.50 M macs), 55.7 % at 0.25.
# Source of the values: slimmable_networks, apps/us_mobilenet_v1_train_val.yml.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/models/slimmable_mbv1.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]

model = dict(
    width_range=(0.25, 1.0),
    val_widths=[i / 40 for i in range(40, 9, -1)],
    distiller=dict(type="KLDivergence", tau=1.0, loss_weight=1.0),
    num_random_samples=2,
)
train_dataloader = dict(batch_size=128, dataset=dict(part="all"))
param_scheduler = dict(end=250)
train_cfg = dict(max_epochs=250, val_interval=10)
auto_scale_lr = dict(base_batch_size=1024)
