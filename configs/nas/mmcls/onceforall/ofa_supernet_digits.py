# python ./tools/test.py configs/nas/mmcls/onceforall/ofa_supernet_digits.py CKPT --work-dir W
# Tests the largest, the smallest and a random subnet. Its training is BigNAS's sandwich; the phases of Once-for-All are
# ofa_{teacher,kernel,depth_1,depth_2,expand_1,expand_2}_digits.py. Hardware: 2 CPU cores.
_base_ = [
    "../../../_base_/datasets/digits.py",
    "../../../_base_/models/ofa_digits.py",
    "../../../_base_/schedules/ofa_small.py",
    "../../../_base_/runtime.py",
]

model = dict(training="sandwich")
train_cfg = dict(max_epochs=30, val_interval=30)
param_scheduler = dict(end=30)
auto_scale_lr = dict(base_batch_size=64)
val_cfg = dict(calibrate_sample_num=256)
test_cfg = dict(calibrate_sample_num=256)
default_hooks = dict(logger=dict(interval=16), checkpoint=dict(interval=4))
