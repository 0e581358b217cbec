# python ./tools/train.py configs/nas/mmcls/onceforall/ofa_depth_2_digits.py --work-dir W_depth_2 \
#   --cfg-options load_from=W_depth_1/epoch_4.pth model.teacher=W_teacher/epoch_20.pth
# Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_digits.py"

model = dict(training="progressive_shrinking", phase="depth_2", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(end=8)
train_cfg = dict(max_epochs=8, val_interval=8)
