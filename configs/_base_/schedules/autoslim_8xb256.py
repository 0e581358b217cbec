# SGD as in AutoSlim; decay on dense convolutions and linear weights only. The learning rate is for 8 x 256 images.
optim_wrapper = dict(
    type="SubnetOptimWrapper",
    optimizer=dict(type="SGD", lr=0.5, momentum=0.9, nesterov=True, weight_decay=1e-4),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0, dwconv_decay_mult=0.0),
)
param_scheduler = dict(
    type="PolyLR", power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=50, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=50, val_interval=1)
val_cfg = dict(type="SubnetValLoop")
test_cfg = dict(type="SubnetTestLoop")
auto_scale_lr = dict(base_batch_size=2048)
