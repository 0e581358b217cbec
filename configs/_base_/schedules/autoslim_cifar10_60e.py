# The warm-up of AutoSlim_TF2 (train_w_slimming.py): 30% of its 200 epochs at one learning rate; decay on all weights.
optim_wrapper = dict(
    type="SubnetOptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
)
param_scheduler = dict(type="ConstantLR", factor=1.0, by_epoch=True, begin=0, end=60)
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=10)
val_cfg = dict(type="SubnetValLoop")
test_cfg = dict(type="SubnetTestLoop")
auto_scale_lr = dict(base_batch_size=128)
