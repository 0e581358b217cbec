# python ./tools/train.py configs/pruning/autoslim/slimmable_resnet50_8xb32_in1k.py --work-dir W1
# Hardware: 8 GPUs x 32 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: one model of four widths, 4,089.18 / 2,322.68 / 1,052.31 / 278.09 M macs. Published by the authors of
# Slimmable Networks: 76.0 / 74.9 / 72.1 / 65.0 % top-1.
# Source of the values: slimmable_networks, apps/s_resnet50_train_val.yml; crops as for the other networks here.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/models/slimmable_resnet50.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]

# Uniform widths instead of subnet files: trained together, a batch norm for each.
model = dict(channel_cfg=[1.0, 0.75, 0.5, 0.25])
train_dataloader = dict(batch_size=32, dataset=dict(part="all"))
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(_delete_=True, type="MultiStepLR", milestones=[30, 60, 90], gamma=0.1, by_epoch=True)
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=256)
