# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_expand_2_cifar10.py --work-dir W_expand_2 \
#   --cfg-options load_from=W_expand_1/epoch_1.pth model.teacher=W_teacher/epoch_6.pth
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="expand_2", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.04))
param_scheduler = dict(end=3)
train_cfg = dict(max_epochs=3, val_interval=3)
