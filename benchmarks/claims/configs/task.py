# The task that all claims are tried on: CIFAR-10 at 16x16 (area), on the device as bytes. 45,000 images train, 5,000
# are held out for every search, and the test images are seen by tools/test.py alone, once for each network, at the end.
# One schedule for everything that is compared: SGD, one epoch of warm-up, then a line to 0 by the iteration.
# Epochs, seed, size of images and part of the data are set by the job (--cfg-options), see task.py.
_base_ = "../../../configs/_base_/runtime.py"

data_root = "data/cifar10"
data_preprocessor = dict(
    type="ClsDataPreprocessor",
    num_classes=10,
    mean=[125.3, 123.0, 113.9],
    std=[63.0, 62.1, 66.7],
    to_rgb=False,
)
_pipeline = [dict(type="Resize", scale=(16, 16), interpolation="area"), dict(type="PackInputs")]
_images = dict(type="Cifar10Images", data_root=data_root, split="train", pipeline=_pipeline)
_augmented = dict(type="DeviceImages", crop_padding=2, padding_mode="reflect", flip_prob=0.5, dataset=_images)
_training = dict(type="HeldOut", part="train", fraction=0.1, dataset=_augmented)
_held_out = dict(type="HeldOut", part="held_out", fraction=0.1, dataset=dict(type="DeviceImages", dataset=_images))
_test = dict(
    type="DeviceImages", dataset=dict(type="Cifar10Images", data_root=data_root, split="test", pipeline=_pipeline)
)
_loader = dict(num_workers=0, collate_fn=dict(type="whole_batch"))

# What a search scores its subnets on, and what it recalibrates them with.
_search_dataloader = dict(batch_size=500, dataset=_held_out, **_loader)
_calibrate_dataloader = dict(batch_size=512, dataset=_training, **_loader)

train_dataloader = dict(
    batch_size=128,
    drop_last=True,
    dataset=_training,
    sampler=dict(type="DefaultSampler", shuffle=True),
    **_loader,
)
val_dataloader = dict(batch_size=500, dataset=_held_out, sampler=dict(type="DefaultSampler", shuffle=False), **_loader)
val_evaluator = dict(type="Accuracy", topk=(1,))
test_dataloader = dict(batch_size=500, dataset=_test, sampler=dict(type="DefaultSampler", shuffle=False), **_loader)
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="SubnetOptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=16, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=16, val_interval=16)
val_cfg = dict(type="SubnetValLoop")
test_cfg = dict(type="SubnetTestLoop")
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
