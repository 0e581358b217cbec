# python ./tools/train.py configs/pruning/autoslim/autoslim_resnet56_supernet_1xb128_cifar10.py --work-dir W1
# Hardware: any GPU; time: not measured here yet.
# Result: the supernet of ResNet-56 that the search slims; full width: 0.856 M params, 125.75 M macs.
# Source of the values: AutoSlim_TF2, train_w_slimming.py.
_base_ = [
    "../../_base_/datasets/cifar10_device.py",
    "../../_base_/models/autoslim_resnet56.py",
    "../../_base_/schedules/autoslim_cifar10_60e.py",
    "../../_base_/runtime.py",
]

# channels_last stays off on CPUs: in that layout torch 2.15 overruns memory on those with AVX2, in the backward pass of
# a strided 1x1 convolution with fewer than 8 input channels.
