# ShuffleNetV2 blocks for 32x32 images, small enough for a CPU: 8 blocks of four kinds, 65,536 subnets of 0.76 M to
# 1.13 M flops.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(
        type="SearchableShuffleNetV2",
        arch_setting=[[32, 4], [64, 4]],
        last_channels=128,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=128,
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=10, loss_weight=1.0),
        topk=(1, 5),
    ),
)
model = dict(type="SPOS", input_shape=(3, 32, 32), architecture=_supernet, mutator=dict(type="NasMutator"))
