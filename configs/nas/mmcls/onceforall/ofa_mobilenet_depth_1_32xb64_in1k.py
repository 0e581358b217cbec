# bash ./tools/dist_train.sh configs/nas/mmcls/onceforall/ofa_mobilenet_depth_1_32xb64_in1k.py 32 \
#   --work-dir W_depth_1 --cfg-options load_from=W_kernel/epoch_N.pth model.teacher=W_teacher/epoch_N.pth
# Phase 'depth_1' of progressive shrinking: depths 3 and 4. Hardware: 32 GPUs x 64 images; not trained here yet.
# Source of the values: once-for-all, train_ofa_net.py.
_base_ = "./ofa_mobilenet_supernet_32xb64_in1k.py"

model = dict(training="progressive_shrinking", phase="depth_1", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.08))
param_scheduler = dict(
    _delete_=True, type="CosineAnnealingLR", eta_min=0.0, by_epoch=True, begin=0, end=25, convert_to_iter_based=True
)
train_cfg = dict(max_epochs=25)
