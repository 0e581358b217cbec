# python ./tools/train.py configs/pruning/autoslim/autoslim_wrn40_4_supernet_1xb128_cifar10.py --work-dir W1
# Hardware: any GPU; time: not measured here yet.
# Result: the supernet of WRN-40-4 that the search slims; full width: 8.95 M params, 1298.58 M macs.
# Source of the values: AutoSlim_TF2, train_w_slimming.py.
_base_ = [
    "../../_base_/datasets/cifar10_device.py",
    "../../_base_/models/autoslim_wrn40_4.py",
    "../../_base_/schedules/autoslim_cifar10_60e.py",
    "../../_base_/runtime.py",
]

# channels_last stays off on CPUs: in that layout torch 2.15 overruns memory on those with AVX2, in the backward pass of
# a strided 1x1 convolution with fewer than 8 input channels.
