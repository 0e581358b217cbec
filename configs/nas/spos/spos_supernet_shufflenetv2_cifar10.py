# python ./tools/train.py configs/nas/spos/spos_supernet_shufflenetv2_cifar10.py --work-dir W1
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = [
    "../../_base_/datasets/cifar10.py",
    "../../_base_/models/spos_cifar10.py",
    "../../_base_/schedules/spos_small.py",
    "../../_base_/runtime.py",
]

optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
param_scheduler = dict(end=15)
train_cfg = dict(max_epochs=15, val_interval=5)
auto_scale_lr = dict(base_batch_size=128)
channels_last = True
