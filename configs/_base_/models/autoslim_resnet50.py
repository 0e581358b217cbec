# ResNet-50 whose widths take 2/12 to 12/12 of their channels.
model = dict(
    type="AutoSlim",
    input_shape=(3, 224, 224),
    architecture=dict(
        type="ImageClassifier",
        backbone=dict(type="ResNet", depth=50),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=1000,
            in_channels=2048,
            loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=1000, loss_weight=1.0),
            topk=(1, 5),
        ),
    ),
    mutator=dict(
        type="OneShotChannelMutator",
        candidate_choices=[i / 12 for i in range(2, 13)],
        choice_mode="ratio",
        divisor=8,
    ),
    distiller=dict(type="KLDivergence", tau=1.0, loss_weight=1.0),
    num_random_samples=2,
)
