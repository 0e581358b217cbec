# Inverted residual blocks for 32x32 images, small enough for a CPU: most layers see 8x8 maps.
model = dict(
    type="AutoSlim",
    input_shape=(3, 32, 32),
    architecture=dict(
        type="ImageClassifier",
        backbone=dict(
            type="InvertedResidualNet",
            stem_channels=16,
            settings=[[1, 16, 1, 2], [3, 24, 2, 2], [3, 48, 3, 1], [3, 96, 2, 2]],
            last_channels=256,
        ),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=10,
            in_channels=256,
            loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=10, loss_weight=1.0),
            topk=(1, 5),
        ),
    ),
    mutator=dict(
        type="OneShotChannelMutator",
        candidate_choices=[i / 12 for i in range(2, 13)],
        choice_mode="ratio",
        divisor=4,
    ),
    distiller=dict(type="KLDivergence", tau=1.0, loss_weight=1.0),
    num_random_samples=2,
)
