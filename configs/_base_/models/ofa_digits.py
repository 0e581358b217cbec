# A MobileNetV3 of Once-for-All for 8x8 digits: one stage of up to three blocks.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(
        type="OFAMobileNetV3",
        arch_setting=[[16, 3, 2, "HSwish", True]],
        depths=[1, 2, 3],
        kernel_sizes=[3, 5],
        expand_ratios=[2, 3, 4],
        stem_channels=16,
        first_channels=16,
        tail_channels=[48, 64],
        stem_stride=1,
        dropout=0.0,
    ),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=64,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        topk=(1,),
    ),
)
_mutator = dict(type="NasMutator", resolutions=[6, 8])
model = dict(type="OFA", input_shape=(3, 8, 8), width_mult=None, architecture=_supernet, mutator=_mutator)
