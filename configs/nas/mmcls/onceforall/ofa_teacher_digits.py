# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_teacher_digits.py --work-dir W_teacher
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_digits.py"

model = dict(training="progressive_shrinking", phase="teacher")
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(end=20)
train_cfg = dict(max_epochs=20, val_interval=20)
