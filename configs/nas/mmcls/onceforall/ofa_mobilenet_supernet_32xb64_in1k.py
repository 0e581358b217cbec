# bash ./tools/dist_test.sh configs/nas/mmcls/onceforall/ofa_mobilenet_supernet_32xb64_in1k.py CKPT 1 --work-dir W
# Tests the largest, the smallest and a random subnet of a supernet, each with its own batch norm statistics. Its
# training (tools/train.py) is BigNAS's: the sandwich rule in one run. The phases of Once-for-All are the configs
# ofa_mobilenet_{teacher,kernel,depth_1,depth_2,expand_1,expand_2}_32xb64_in1k.py.
# Hardware: 32 GPUs x 64 images; not trained here yet.
_base_ = [
    "../../../_base_/datasets/imagenet_ofa.py",
    "../../../_base_/models/ofa_mobilenetv3.py",
    "../../../_base_/schedules/ofa_32xb64.py",
    "../../../_base_/runtime.py",
]

model = dict(training="sandwich")
