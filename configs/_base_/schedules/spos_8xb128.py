# SGD as in SPOS, the learning rate falling to 0 by the iteration; no decay on biases and norms. The learning rate is
# for 8 x 128 images. Source: SinglePathOneShot, src/Supernet/train.py; MMRazor 0.x, imagenet_bs1024_spos.py.
optim_wrapper = dict(
    type="SubnetOptimWrapper",
    optimizer=dict(type="SGD", lr=0.5, momentum=0.9, weight_decay=4e-5),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)
param_scheduler = dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=150000)
train_cfg = dict(by_epoch=False, max_iters=150000, val_interval=10000)
val_cfg = dict(type="SubnetValLoop")
test_cfg = dict(type="SubnetTestLoop")
auto_scale_lr = dict(base_batch_size=1024)
