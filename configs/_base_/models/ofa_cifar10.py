# A MobileNetV3 of Once-for-All for 32x32 images, small enough for a CPU: two stages of up to three blocks.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(
        type="OFAMobileNetV3",
        arch_setting=[[16, 3, 2, "ReLU", False], [24, 3, 2, "HSwish", True]],
        width_mult=1.0,
        depths=[1, 2, 3],
        kernel_sizes=[3, 5],
        stem_channels=8,
        first_channels=8,
        tail_channels=[72, 96],
        dropout=0.0,
    ),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=96,
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=10, loss_weight=1.0),
        topk=(1, 5),
    ),
)
_mutator = dict(type="NasMutator", resolutions=[16, 20, 24])
model = dict(type="OFA", input_shape=(3, 24, 24), width_mult=None, architecture=_supernet, mutator=_mutator)
