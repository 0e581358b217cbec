# CIFAR-10 as images: data/cifar10/{train,test}/CLASS/*. 5% of the training images are held out for searches.
data_root = "data/cifar10"

data_preprocessor = dict(
    type="ClsDataPreprocessor",
    num_classes=10,
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=True,
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]

_train = dict(type="CustomDataset", data_root=data_root, data_prefix="train", pipeline=train_pipeline)
_held_out = dict(type="CustomDataset", data_root=data_root, data_prefix="train", pipeline=test_pipeline)
_test = dict(type="CustomDataset", data_root=data_root, data_prefix="test", pipeline=test_pipeline)

# What a search scores its subnets on, and what it recalibrates them with.
_search_dataloader = dict(
    batch_size=500, num_workers=0, dataset=dict(type="HeldOut", part="held_out", fraction=0.05, dataset=_held_out)
)
_calibrate_dataloader = dict(
    batch_size=256, num_workers=0, dataset=dict(type="HeldOut", part="train", fraction=0.05, dataset=_train)
)

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    dataset=dict(type="HeldOut", part="train", fraction=0.05, dataset=_train),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=1,
    persistent_workers=True,
    dataset=_test,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
