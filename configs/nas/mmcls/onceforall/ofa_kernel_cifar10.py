# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_kernel_cifar10.py --work-dir W_kernel \
#   --cfg-options load_from=W_teacher/epoch_6.pth model.teacher=W_teacher/epoch_6.pth
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="kernel", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(end=2)
train_cfg = dict(max_epochs=2, val_interval=2)
