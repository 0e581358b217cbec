# Progressive shrinking's settings: SGD, linear warm-up, cosine by the iteration; no decay on biases and norms. A phase
# sets the learning rate (for 32 x 64 images) and the epochs. Source: once-for-all, train_ofa_net.py.
optim_wrapper = dict(
    type="SubnetOptimWrapper",
    optimizer=dict(type="SGD", lr=0.96, momentum=0.9, nesterov=True, weight_decay=3e-5),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 32, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=True, begin=5, end=125, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=125, val_interval=5)
val_cfg = dict(type="SubnetValLoop", calibrate_sample_num=2000)
test_cfg = dict(type="SubnetTestLoop", calibrate_sample_num=2000)
auto_scale_lr = dict(base_batch_size=2048)
