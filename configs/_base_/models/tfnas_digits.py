# Blocks of TF-NAS for 8x8 digits: five of them in two stages of any depth.
_norm = dict(type="BN", affine=False, track_running_stats=False)
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(
        type="TFNASNet",
        arch_setting=[[16, 2, 1, "ReLU"], [24, 3, 2, "SiLU"]],
        stem_channels=(8, 8),
        stem_stride=1,
        stem_se=0,
        last_channels=64,
        norm_cfg=_norm,
    ),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=64,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        topk=(1,),
    ),
)
model = dict(
    type="TFNAS",
    input_shape=(3, 8, 8),
    architecture=_supernet,
    mutator=dict(type="NasMutator"),
    latency_table=None,
    target_latency="60%",
    epochs_without_arch=2,
)
