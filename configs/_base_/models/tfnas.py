# The space of TF-NAS: 18 blocks of eight operators with a width each, five stages of any depth; 3.4e16 networks without
# their widths. A search runs without affine norms and without their statistics, as published.
_norm = dict(type="BN", affine=False, track_running_stats=False)
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(type="TFNASNet", norm_cfg=_norm),
    head=dict(
        type="LinearClsHead",
        num_classes=100,
        in_channels=1280,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        topk=(1, 5),
    ),
)
model = dict(
    type="TFNAS",
    input_shape=(3, 224, 224),
    architecture=_supernet,
    mutator=dict(type="NasMutator"),
    latency_table=None,
    target_latency=15.0,
    lambda_lat=0.1,
    tolerance=0.01,
    epochs_without_arch=10,
    temperature=5.0,
    temperature_decay=0.96,
)
