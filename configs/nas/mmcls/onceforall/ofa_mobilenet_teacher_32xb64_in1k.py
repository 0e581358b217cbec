# bash ./tools/dist_train.sh configs/nas/mmcls/onceforall/ofa_mobilenet_teacher_32xb64_in1k.py 32 \
#   --work-dir W_teacher
# Phase 'teacher' of progressive shrinking: the largest subnet, by the labels alone.
# Hardware: 32 GPUs x 64 images; not trained here yet.
# Source of the values: Once-for-All, arXiv:1908.09791, section 4.1.
_base_ = "./ofa_mobilenet_supernet_32xb64_in1k.py"

model = dict(training="progressive_shrinking", phase="teacher")
optim_wrapper = dict(optimizer=dict(lr=2.6))
param_scheduler = dict(
    _delete_=True, type="CosineAnnealingLR", eta_min=0.0, by_epoch=True, begin=0, end=180, convert_to_iter_based=True
)
train_cfg = dict(max_epochs=180)
