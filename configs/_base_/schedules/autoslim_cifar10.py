# Three epochs of CIFAR-10, for a CPU: enough to see every step work, far from converged.
_base_ = "./autoslim_8xb256.py"

optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
param_scheduler = dict(end=3)
train_cfg = dict(max_epochs=3, val_interval=3)
auto_scale_lr = dict(base_batch_size=128)
