# CIFAR-10 on the device as bytes: data/cifar10 holds cifar-10-batches-py/, {train,test}/CLASS/IMAGE or
# cifar10_{train,test}.tar.gz. 20% of the training images are held out for searches; normalisation, reflected padding
# and batch sizes as in AutoSlim_TF2 (dataloader.py).
data_root = "data/cifar10"

data_preprocessor = dict(
    type="ClsDataPreprocessor",
    num_classes=10,
    mean=[125.3, 123.0, 113.9],
    std=[63.0, 62.1, 66.7],
    to_rgb=False,
)
_images = dict(type="Cifar10Images", data_root=data_root, split="train", pipeline=[dict(type="PackInputs")])
_train = dict(type="DeviceImages", crop_padding=4, padding_mode="reflect", flip_prob=0.5, dataset=_images)
_held_out = dict(type="DeviceImages", dataset=_images)
_test = dict(
    type="DeviceImages",
    dataset=dict(type="Cifar10Images", data_root=data_root, split="test", pipeline=[dict(type="PackInputs")]),
)
_whole = dict(type="whole_batch")

# What a search scores its subnets on, and what it recalibrates them with.
_search_dataloader = dict(
    batch_size=2000,
    num_workers=0,
    collate_fn=_whole,
    dataset=dict(type="HeldOut", part="held_out", fraction=0.2, dataset=_held_out),
)
_calibrate_dataloader = dict(
    batch_size=512,
    num_workers=0,
    collate_fn=_whole,
    dataset=dict(type="HeldOut", part="train", fraction=0.2, dataset=_train),
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    collate_fn=_whole,
    dataset=dict(type="HeldOut", part="train", fraction=0.2, dataset=_train),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=2000,
    num_workers=0,
    collate_fn=_whole,
    dataset=_test,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
