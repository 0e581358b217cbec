# python ./tools/train.py configs/nas/spos/spos_supernet_shufflenetv2_8xb128_in1k.py --work-dir W1
# Hardware: 8 GPUs x 128 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: a supernet of 4^20 subnets of 3.16 to 3.87 M params and 269.4 to 397.6 M macs (280.2 to 414.2 M flops).
# Source of the values: MMRazor 0.x, configs/nas/spos/spos_supernet_shufflenetv2_8xb128_in1k.py.
_base_ = [
    "../../_base_/datasets/imagenet_spos.py",
    "../../_base_/models/spos_shufflenetv2.py",
    "../../_base_/schedules/spos_8xb128.py",
    "../../_base_/runtime.py",
]

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10000))
