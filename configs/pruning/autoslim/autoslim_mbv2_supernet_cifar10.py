# python ./tools/train.py configs/pruning/autoslim/autoslim_mbv2_supernet_cifar10.py --work-dir W1
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = [
    "../../_base_/datasets/cifar10.py",
    "../../_base_/models/autoslim_cifar10.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]

optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
param_scheduler = dict(end=10)
train_cfg = dict(max_epochs=10, val_interval=5)
auto_scale_lr = dict(base_batch_size=128)
channels_last = True
