# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_kernel_cifar10.py --work-dir W_kernel \
#   --cfg-options load_from=W_teacher/iter_400.pth model.teacher=W_teacher/iter_400.pth
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="kernel", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(end=160)
train_cfg = dict(max_iters=160, val_interval=160)
