# python ./tools/train.py configs/pruning/autoslim/autoslim_mbv2_supernet_1xb128_cifar10.py --work-dir W1
# Hardware: any GPU; time: not measured here yet.
# Result: the supernet of MobileNetV2 that the search slims; full width: 2.24 M params, 77.63 M macs.
# Source of the values: AutoSlim_TF2, train_w_slimming.py.
_base_ = [
    "../../_base_/datasets/cifar10_device.py",
    "../../_base_/models/autoslim_mbv2_32px.py",
    "../../_base_/schedules/autoslim_cifar10_60e.py",
    "../../_base_/runtime.py",
]

channels_last = True
optim_wrapper = dict(optimizer=dict(weight_decay=4e-5))
