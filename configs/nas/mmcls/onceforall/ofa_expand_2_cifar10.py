# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_expand_2_cifar10.py --work-dir W_expand_2 \
#   --cfg-options load_from=W_expand_1/iter_100.pth model.teacher=W_teacher/iter_400.pth
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(training="progressive_shrinking", phase="expand_2", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.04))
param_scheduler = dict(end=240)
train_cfg = dict(max_iters=240, val_interval=240)
