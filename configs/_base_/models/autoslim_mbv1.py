# MobileNet v1 1.1x whose widths take 2/12 to 12/12 of their channels. 1.1 is read off the published subnets, which step
# down from 32, 72, 144, 280, 560 and 1128 channels in twelfths; it is not said in the authors' files.
model = dict(
    type="AutoSlim",
    input_shape=(3, 224, 224),
    architecture=dict(
        type="ImageClassifier",
        backbone=dict(type="MobileNetV1", widen_factor=1.1),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=1000,
            in_channels=1128,
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
