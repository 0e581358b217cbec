# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_expand_1_cifar10.py --work-dir W_expand_1 \
#   --cfg-options load_from=W_depth_2/epoch_2.pth model.teacher=W_teacher/epoch_6.pth
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="expand_1", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = dict(end=1)
train_cfg = dict(max_epochs=1, val_interval=1)
