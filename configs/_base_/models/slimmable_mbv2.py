# MobileNetV2 at any uniform width. Outputs of blocks are rounded to multiples of 8 and expanded six times; the last
# convolution keeps its 1280 channels.
model = dict(
    type="AutoSlim",
    input_shape=(3, 224, 224),
    architecture=dict(
        type="ImageClassifier",
        backbone=dict(type="MobileNetV2", widen_factor=1.0),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=1000,
            in_channels=1280,
            loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
            topk=(1, 5),
        ),
    ),
    mutator=dict(
        type="OneShotChannelMutator",
        divisor=8,
        units={"backbone.layer[2-7].*.conv.0.conv": dict(divisor=48)},
        exclude=["backbone.conv2*"],
    ),
)
