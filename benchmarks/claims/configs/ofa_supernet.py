# python -m benchmarks.claims --job ofa-phase-teacher
# A small MobileNetV3 of Once-for-All for 16x16 images: two stages of one to three blocks, kernels 3 and 5, ratios 3, 4
# and 6, images of 12 to 16 pixels. A job sets the phase of progressive shrinking.
_base_ = "./task.py"

_supernet = dict(
    type="ImageClassifier",
    backbone=dict(
        type="OFAMobileNetV3",
        arch_setting=[[16, 3, 2, "ReLU", False], [24, 3, 2, "HSwish", True]],
        width_mult=1.0,
        depths=[1, 2, 3],
        kernel_sizes=[3, 5],
        stem_channels=8,
        stem_stride=1,
        first_channels=8,
        tail_channels=[72, 128],
        dropout=0.0,
    ),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=128,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        topk=(1,),
    ),
)
_mutator = dict(type="NasMutator", resolutions=[12, 14, 16])
model = dict(type="OFA", input_shape=(3, 16, 16), architecture=_supernet, mutator=_mutator)
val_cfg = dict(calibrate_sample_num=4096)
channels_last = True
