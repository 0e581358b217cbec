# What SPOS trains with in MMRazor 1.x, under the names that its configs take from mmrazor::_base_/settings/: ImageNet
# with lists of images, 8 x 128 of them in a step, 300 epochs. This project's own bases are in ../datasets and
# ../schedules; they hold training images out for the search.
dataset_type = "ImageNet"
data_root = "data/imagenet"
preprocess_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

_jitter = dict.fromkeys(("brightness", "contrast", "saturation"), 0.4)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224),
    dict(type="ColorJitter", **_jitter),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeEdge", scale=256, edge="short"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]

_images = dict(type=dataset_type, data_root=data_root)
_loader = dict(batch_size=128, num_workers=4, persistent_workers=True)
train_dataloader = dict(
    dataset=dict(ann_file="meta/train.txt", data_prefix="train", pipeline=train_pipeline, **_images),
    sampler=dict(type="DefaultSampler", shuffle=True),
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

paramwise_cfg = dict.fromkeys(("bias_decay_mult", "norm_decay_mult", "dwconv_decay_mult"), 0.0)
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.5, momentum=0.9, weight_decay=4e-5), paramwise_cfg=paramwise_cfg, clip_grad=None
)
param_scheduler = dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=True, end=300, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=300)
val_cfg = dict()
test_cfg = dict()
