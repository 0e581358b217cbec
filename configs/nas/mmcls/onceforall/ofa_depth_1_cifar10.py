# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_depth_1_cifar10.py --work-dir W_depth_1 \
#   --cfg-options load_from=W_kernel/iter_160.pth model.teacher=W_teacher/iter_400.pth
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="depth_1", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = dict(end=100)
train_cfg = dict(max_iters=100, val_interval=100)
