# ResNet-50 at any uniform width: channels are rounded to multiples of 8.
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
            loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
            topk=(1, 5),
        ),
    ),
    mutator=dict(type="OneShotChannelMutator", divisor=8),
)
