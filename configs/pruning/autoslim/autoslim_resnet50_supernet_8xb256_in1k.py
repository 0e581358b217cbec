# python ./tools/train.py configs/pruning/autoslim/autoslim_resnet50_supernet_8xb256_in1k.py --work-dir W1
# Hardware: 8 GPUs x 256 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: the supernet that the search slims. Full width: 25.56 M params, 4,089.18 M macs, 4,121.92 M flops.
# The schedule is that of the MobileNetV2 supernet; AutoSlim's authors released none for this one.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/models/autoslim_resnet50.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]
