# python ./tools/test.py configs/nas/mmcls/onceforall/ofa_supernet_cifar10.py CKPT --work-dir W
# Tests the largest, the smallest and a random subnet. Its training is BigNAS's sandwich; the phases of Once-for-All are
# ofa_{teacher,kernel,depth_1,depth_2,expand_1,expand_2}_cifar10.py. Hardware: 2 CPU cores; in batches, not epochs.
_base_ = [
    "../../../_base_/datasets/cifar10.py",
    "../../../_base_/models/ofa_cifar10.py",
    "../../../_base_/schedules/ofa_small.py",
    "../../../_base_/runtime.py",
]

model = dict(training="sandwich")
param_scheduler = dict(_delete_=True, type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end=1160)
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=1160, val_interval=1160)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=40))
channels_last = True
val_cfg = dict(calibrate_sample_num=1024)
test_cfg = dict(calibrate_sample_num=1024)
