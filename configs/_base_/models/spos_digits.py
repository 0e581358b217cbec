# ShuffleNetV2 blocks for 8x8 digits: 4 blocks of four kinds, 256 subnets.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(type="SearchableShuffleNetV2", arch_setting=[[32, 2], [64, 2]], stem_stride=1, last_channels=64),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=64,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        topk=(1,),
    ),
)
model = dict(type="SPOS", input_shape=(3, 8, 8), architecture=_supernet, mutator=dict(type="NasMutator"))
