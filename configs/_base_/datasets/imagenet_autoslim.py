# ImageNet-1k as in AutoSlim: data/imagenet/{train,val}/CLASS/*.JPEG, or flat folders with meta/{train,val}.txt.
# 4% of the training images are held out: a search scores subnets on them, no training sees them.
data_root = "data/imagenet"

data_preprocessor = dict(
    type="ClsDataPreprocessor",
    num_classes=1000,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, crop_ratio_range=(0.25, 1.0), backend="pillow"),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, backend="pillow"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeEdge", scale=256, edge="short", backend="pillow"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]

_train = dict(type="ImageNet", data_root=data_root, split="train", pipeline=train_pipeline)
_held_out = dict(type="ImageNet", data_root=data_root, split="train", pipeline=test_pipeline)
_val = dict(type="ImageNet", data_root=data_root, split="val", pipeline=test_pipeline)

# What a search scores its subnets on, and what it recalibrates them with; a config adds the batch size. To score on the
# validation set instead:
# --cfg-options search_cfg.dataloader.dataset.part=all search_cfg.dataloader.dataset.dataset.split=val
_search_dataloader = dict(
    num_workers=8, dataset=dict(type="HeldOut", part="held_out", fraction=0.04, dataset=_held_out)
)
_calibrate_dataloader = dict(num_workers=8, dataset=dict(type="HeldOut", part="train", fraction=0.04, dataset=_train))

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(type="HeldOut", part="train", fraction=0.04, dataset=_train),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    dataset=_val,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
