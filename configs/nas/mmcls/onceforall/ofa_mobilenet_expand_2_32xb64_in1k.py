# bash ./tools/dist_train.sh configs/nas/mmcls/onceforall/ofa_mobilenet_expand_2_32xb64_in1k.py 32 \
#   --work-dir W_expand_2 --cfg-options load_from=W_expand_1/epoch_N.pth model.teacher=W_teacher/epoch_N.pth
# Phase 'expand_2' of progressive shrinking: ratios 3, 4 and 6. Hardware: 32 GPUs x 64 images; not trained here yet.
# Source of the values: once-for-all, train_ofa_net.py.
_base_ = "./ofa_mobilenet_supernet_32xb64_in1k.py"

model = dict(training="progressive_shrinking", phase="expand_2", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.24))
train_cfg = dict(max_epochs=125)
