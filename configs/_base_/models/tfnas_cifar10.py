# Blocks of TF-NAS for 32x32 images, small enough for a CPU: six of them in three stages of any depth.
_norm = dict(type="BN", affine=False, track_running_stats=False)
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(
        type="TFNASNet",
        arch_setting=[[12, 2, 1, "ReLU"], [20, 2, 2, "SiLU"], [32, 2, 2, "SiLU"]],
        stem_channels=(12, 8),
        stem_se=4,
        last_channels=128,
        norm_cfg=_norm,
    ),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=128,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        topk=(1, 5),
    ),
)
model = dict(
    type="TFNAS",
    input_shape=(3, 32, 32),
    architecture=_supernet,
    mutator=dict(type="NasMutator"),
    latency_table=None,
    target_latency="50%",
    lambda_lat=0.1,
    tolerance=0.01,
    epochs_without_arch=2,
    temperature=5.0,
    temperature_decay=0.7,
)
