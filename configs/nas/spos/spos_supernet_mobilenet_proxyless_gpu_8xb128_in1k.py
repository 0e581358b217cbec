# python ./tools/train.py configs/nas/spos/spos_supernet_mobilenet_proxyless_gpu_8xb128_in1k.py --work-dir W1
# Hardware: 8 GPUs x 128 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: a supernet of 7^21 subnets of 2.65 to 8.38 M params and 83.3 to 1036.7 M macs (87.7 to 1076.1 M flops).
# Source of the values: MMRazor 0.x, configs/nas/spos/spos_supernet_mobilenet_proxyless_gpu_8xb128_in1k.py.
_base_ = [
    "../../_base_/datasets/imagenet_spos.py",
    "../../_base_/models/spos_mobilenet_proxyless_gpu.py",
    "../../_base_/schedules/spos_8xb128.py",
    "../../_base_/runtime.py",
]

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10000))
