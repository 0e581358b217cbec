# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_teacher_cifar10.py --work-dir W_teacher
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="teacher")
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(end=400)
train_cfg = dict(max_iters=400, val_interval=400)
