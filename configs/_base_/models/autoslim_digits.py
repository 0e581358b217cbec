# A small inverted-residual network for 8x8 digits.
model = dict(
    type="AutoSlim",
    input_shape=(3, 8, 8),
    architecture=dict(
        type="ImageClassifier",
        backbone=dict(
            type="InvertedResidualNet",
            stem_channels=16,
            settings=[[1, 16, 1, 1], [4, 24, 2, 1], [4, 40, 2, 2]],
            last_channels=128,
        ),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=10,
            in_channels=128,
            loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
            topk=(1,),
        ),
    ),
    mutator=dict(
        type="OneShotChannelMutator",
        candidate_choices=[i / 6 for i in range(1, 7)],
        choice_mode="ratio",
        divisor=4,
    ),
    distiller=dict(type="KLDivergence", tau=1.0, loss_weight=1.0),
    num_random_samples=2,
)
