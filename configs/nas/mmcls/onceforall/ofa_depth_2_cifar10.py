# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_depth_2_cifar10.py --work-dir W_depth_2 \
#   --cfg-options load_from=W_depth_1/iter_100.pth model.teacher=W_teacher/iter_400.pth
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="depth_2", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.04))
param_scheduler = dict(end=160)
train_cfg = dict(max_iters=160, val_interval=160)
