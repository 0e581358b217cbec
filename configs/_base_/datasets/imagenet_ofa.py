# ImageNet-1k as in Once-for-All: crops of 8% and more, weaker colours, batches of 64. About 10,000 training images are
# held out: a search scores subnets on them, no training sees them. Images are resized to the resolution of each step.
_base_ = "./imagenet_spos.py"

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, crop_ratio_range=(0.08, 1.0), backend="pillow"),
    dict(type="ColorJitter", brightness=32 / 255, saturation=0.5, backend="pillow"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
_fraction = 10000 / 1281167
_search_dataloader = dict(dataset=dict(fraction=_fraction))
_calibrate_dataloader = dict(batch_size=200, dataset=dict(fraction=_fraction, dataset=dict(pipeline=train_pipeline)))
train_dataloader = dict(batch_size=64, dataset=dict(fraction=_fraction, dataset=dict(pipeline=train_pipeline)))
