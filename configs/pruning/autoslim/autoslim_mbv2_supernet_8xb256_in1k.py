# python ./tools/mmcls/train_mmcls.py configs/pruning/autoslim/autoslim_mbv2_supernet_8xb256_in1k.py --work-dir W1
# Hardware: 8 GPUs x 256 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: the supernet that the search slims. Full width: 6.86 M params, 672.83 M macs, 702.90 M flops.
# Source of the values: MMRazor 0.x, configs/pruning/autoslim/autoslim_mbv2_supernet_8xb256_in1k.py.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/models/autoslim_mbv2.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]
