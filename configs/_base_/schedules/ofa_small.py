# Progressive shrinking in a few epochs, for small data on a CPU; a phase sets how many.
_base_ = "./ofa_32xb64.py"

optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(
    _delete_=True, type="CosineAnnealingLR", eta_min=0.0, by_epoch=True, begin=0, end=4, convert_to_iter_based=True
)
train_cfg = dict(max_epochs=4, val_interval=4)
auto_scale_lr = dict(base_batch_size=128)
