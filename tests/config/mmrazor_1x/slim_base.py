# What the configs of widths share, as MMRazor 1.x's take it from mmrazor:: and mmcls::, at the size of a test.
data_preprocessor = dict(type="ImgDataPreprocessor", mean=[77.9] * 3, std=[95.9] * 3, bgr_to_rgb=True)
net = dict(
    type="ImageClassifier",
    backbone=dict(type="mmrazor_lite.InvertedResidualNet", settings=[[1, 8, 1, 1], [2, 16, 1, 2]], stem_channels=8,
                  last_channels=32),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=10, in_channels=32, topk=(1, 5)),
)  # fmt: skip
model = dict(_scope_="mmcls", **net)

pipeline = [dict(type="mmcls.PackClsInputs")]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(type="Digits", split="train", size=16, pipeline=pipeline),
    sampler=dict(type="mmcls.DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(type="Digits", split="test", size=16, pipeline=pipeline, indices=64),
    sampler=dict(type="mmcls.DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="mmcls.Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
paramwise_cfg = dict(norm_decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(type="mmcls.SGD", lr=0.05, momentum=0.9, weight_decay=1e-4), paramwise_cfg=paramwise_cfg
)
param_scheduler = dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=2)
train_cfg = dict(by_epoch=False, max_iters=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2))
default_scope = "mmcls"
custom_hooks = []
