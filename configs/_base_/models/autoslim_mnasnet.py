# torchvision's MNASNet 1.5x with a last convolution of 1920 channels; widths take 2/12 to 12/12 of their channels.
model = dict(
    type="AutoSlim",
    input_shape=(3, 224, 224),
    architecture=dict(
        type="PlainClassifier",
        net=dict(type="MNASNet", alpha=1.5, last_channels=1920, num_classes=1000),
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=1000, loss_weight=1.0),
        topk=(1, 5),
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
