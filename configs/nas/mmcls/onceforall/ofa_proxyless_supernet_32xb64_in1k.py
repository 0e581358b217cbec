# bash ./tools/dist_test.sh configs/nas/mmcls/onceforall/ofa_proxyless_supernet_32xb64_in1k.py CKPT 1 --work-dir W
# Hardware: 32 GPUs x 64 images; not trained here yet.
_base_ = [
    "../../../_base_/datasets/imagenet_ofa.py",
    "../../../_base_/models/ofa_proxyless.py",
    "../../../_base_/schedules/ofa_32xb64.py",
    "../../../_base_/runtime.py",
]

model = dict(training="sandwich")
