# python ./tools/train.py configs/pruning/autoslim/slimmable_mbv2_8xb20_in1k.py --work-dir W1
# Hardware: 8 GPUs x 20 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: one model of four widths, 300.77 / 209.07 / 97.13 / 59.29 M macs. Published by the authors of
# Slimmable Networks: 70.5 / 68.9 / 64.4 / 59.7 % top-1.
# Source of the values: slimmable_networks, apps/s_mobilenet_v2_train_val.yml.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/models/slimmable_mbv2.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]

# Uniform widths instead of subnet files: trained together, a batch norm for each.
model = dict(channel_cfg=[1.0, 0.75, 0.5, 0.35])
train_dataloader = dict(batch_size=20, dataset=dict(part="all"))
optim_wrapper = dict(optimizer=dict(lr=0.045))
param_scheduler = dict(_delete_=True, type="ExponentialLR", gamma=0.98, by_epoch=True)
train_cfg = dict(max_epochs=480)
auto_scale_lr = dict(base_batch_size=160)
