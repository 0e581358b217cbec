# Retraining of TF-NAS: SGD on a cosine by the epoch, the first five epochs warming up (train_eval.py of the authors).
optim_wrapper = dict(
    type="SubnetOptimWrapper",
    optimizer=dict(type="SGD", lr=0.2, momentum=0.9, weight_decay=1e-5),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.2, by_epoch=True, begin=0, end=4),
    dict(type="CosineAnnealingLR", T_max=250, eta_min=0.0, by_epoch=True, begin=0, end=250),
]
train_cfg = dict(by_epoch=True, max_epochs=250, val_interval=5)
val_cfg = dict(type="SubnetValLoop")
test_cfg = dict(type="SubnetTestLoop")
auto_scale_lr = dict(base_batch_size=512)
