# The 20 blocks of SPOS, each shuffle_3x3, shuffle_5x5, shuffle_7x7 or shuffle_xception, as MMRazor builds them. As in
# the code of the paper's authors: backbone.block_style="official", head.type="BiasFreeLinearClsHead" (their classifier
# has no bias), and backbone.norm_cfg=dict(type="BN", affine=False) while the supernet trains. Inner widths as choices
# too: backbone.search_channels=True.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(type="SearchableShuffleNetV2"),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=1024,
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=1000, loss_weight=1.0),
        topk=(1, 5),
    ),
)
model = dict(type="SPOS", input_shape=(3, 224, 224), architecture=_supernet, mutator=dict(type="NasMutator"))
