# python ./tools/train.py configs/pruning/distilled/distilled_digits.py --work-dir W2 \
#   --cfg-options algorithm.teacher=W1/epoch_15.pth
# Hardware: 2 CPU cores, under a minute. W1 is the original, trained on its own: the same command with
# configs/pruning/autoslim/autoslim_supernet_digits.py and --cfg-options algorithm.channel_cfg=1.0
# algorithm.distiller=None algorithm.num_random_samples=None.
_base_ = [
    "../../_base_/datasets/digits.py",
    "../../_base_/models/autoslim_digits.py",
    "../../_base_/schedules/autoslim_8xb256.py",
    "../../_base_/runtime.py",
]

model = dict(
    _delete_=True,
    type="Distilled",
    input_shape=_base_.model.input_shape,
    architecture=_base_.model.architecture,
    mutator=_base_.model.mutator,
    channel_cfg=0.5,
    teacher="work_dirs/original_digits/epoch_15.pth",
)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = dict(end=15)
train_cfg = dict(max_epochs=15, val_interval=15)
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(logger=dict(interval=16), checkpoint=dict(interval=5))
