# ImageNet-1k as in SPOS: wider crops than AutoSlim's, and batches of 128. 4% of the training images are held out: a
# search scores subnets on them, no training of the supernet sees them.
_base_ = "./imagenet_autoslim.py"

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, backend="pillow"),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, backend="pillow"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
_train = dict(pipeline=train_pipeline)
_calibrate_dataloader = dict(batch_size=128, dataset=dict(dataset=dict(pipeline=train_pipeline)))
train_dataloader = dict(batch_size=128, dataset=dict(dataset=dict(pipeline=train_pipeline)))
