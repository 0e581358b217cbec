# What BigNAS trains the space of Once-for-All with in MMRazor 1.x: 32 x 64 images, each several times in a batch, 360
# epochs, the learning rate falling by a cosine after 3125 iterations of warm-up.
dataset_type = "ImageNet"
data_root = "data/imagenet"
data_preprocessor = dict(
    type="ClsDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="ColorJitter", brightness=0.1254, saturation=0.5),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeEdge", scale=256, edge="short", backend="pillow", interpolation="bilinear"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]

_images = dict(type=dataset_type, data_root=data_root)
_loader = dict(batch_size=64, num_workers=16, persistent_workers=True)
train_dataloader = dict(
    dataset=dict(ann_file="meta/train.txt", data_prefix="train", pipeline=train_pipeline, **_images),
    sampler=dict(type="RepeatAugSampler", shuffle=True),
    **_loader,
)
val_dataloader = dict(
    dataset=dict(ann_file="meta/val.txt", data_prefix="val", pipeline=test_pipeline, **_images),
    sampler=dict(type="DefaultSampler", shuffle=False),
    **_loader,
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

max_epochs = 360
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.8, momentum=0.9, nesterov=True, weight_decay=1e-5),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=3125),
    dict(
        type="CosineAnnealingLR", T_max=max_epochs, eta_min=0, by_epoch=True, begin=0, end=max_epochs,
        convert_to_iter_based=True,
    ),
]  # fmt: skip
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type="SubnetValLoop", calibrate_sample_num=4096)
test_cfg = dict(type="SubnetTestLoop", calibrate_sample_num=4096)
