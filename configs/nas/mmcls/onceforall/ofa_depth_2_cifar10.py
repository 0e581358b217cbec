# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_depth_2_cifar10.py --work-dir W_depth_2 \
#   --cfg-options load_from=W_depth_1/epoch_1.pth model.teacher=W_teacher/epoch_6.pth
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="depth_2", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.04))
param_scheduler = dict(end=2)
train_cfg = dict(max_epochs=2, val_interval=2)
