# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_teacher_cifar10.py --work-dir W_teacher
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="teacher")
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(end=6)
train_cfg = dict(max_epochs=6, val_interval=6)
