# bash ./tools/dist_train.sh configs/nas/mmcls/onceforall/ofa_mobilenet_kernel_32xb64_in1k.py 32 \
#   --work-dir W_kernel --cfg-options load_from=W_teacher/epoch_N.pth model.teacher=W_teacher/epoch_N.pth
# Phase 'kernel' of progressive shrinking: all kernels. Hardware: 32 GPUs x 64 images; not trained here yet.
# Source of the values: once-for-all, train_ofa_net.py.
_base_ = "./ofa_mobilenet_supernet_32xb64_in1k.py"

model = dict(training="progressive_shrinking", phase="kernel", teacher="")
optim_wrapper = dict(optimizer=dict(lr=0.96))
train_cfg = dict(max_epochs=125)
