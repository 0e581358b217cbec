# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_expand_1_digits.py --work-dir W_expand_1 \
#   --cfg-options load_from=W_depth_2/epoch_8.pth model.teacher=W_teacher/epoch_20.pth
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_digits.py"

model = dict(training="progressive_shrinking", phase="expand_1", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.03))
param_scheduler = dict(end=4)
train_cfg = dict(max_epochs=4, val_interval=4)
