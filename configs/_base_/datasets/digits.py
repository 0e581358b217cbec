# The 1,797 handwritten digits of scikit-learn, in memory: nothing to download. 20% of the training images are held
# out for searches. No worker processes: batches of such small images are made faster than they are passed on.
data_preprocessor = dict(type="ClsDataPreprocessor", num_classes=10, mean=[77.9] * 3, std=[95.9] * 3, to_rgb=False)
train_pipeline = [dict(type="RandomCrop", crop_size=8, padding=1), dict(type="PackInputs")]
test_pipeline = [dict(type="PackInputs")]

_train = dict(type="Digits", split="train", pipeline=train_pipeline)
_held_out = dict(type="Digits", split="train", pipeline=test_pipeline)
_test = dict(type="Digits", split="test", pipeline=test_pipeline)

# What a search scores its subnets on, and what it recalibrates them with.
_search_dataloader = dict(
    batch_size=500, num_workers=0, dataset=dict(type="HeldOut", part="held_out", fraction=0.2, dataset=_held_out)
)
_calibrate_dataloader = dict(
    batch_size=256, num_workers=0, dataset=dict(type="HeldOut", part="train", fraction=0.2, dataset=_train)
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    dataset=dict(type="HeldOut", part="train", fraction=0.2, dataset=_train),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(batch_size=500, num_workers=0, dataset=_test, sampler=dict(type="DefaultSampler", shuffle=False))
val_evaluator = dict(type="Accuracy", topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
