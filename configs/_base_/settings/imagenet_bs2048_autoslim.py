# What AutoSlim trains with in MMRazor 1.x: as SPOS there, with crops of a quarter and more, 8 x 256 images, Nesterov's
# momentum and more weight decay.
_base_ = "./imagenet_bs1024_spos.py"

_base_.train_dataloader.dataset.pipeline[1].crop_ratio_range = (0.25, 1.0)
train_dataloader = dict(batch_size=256)
val_dataloader = dict(batch_size=256)
test_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(nesterov=True, weight_decay=1e-4))
