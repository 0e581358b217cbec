# MobileNetV3 of Once-for-All at width 1.0: 2.2e19 subnets at each of 25 resolutions; the largest has 7.66 M params
# and 566 M macs (592 M flops) at 224. --cfg-options model.width_mult=1.2 for the wider one.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(type="OFAMobileNetV3", width_mult=1.0),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=1280,
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=1000, loss_weight=1.0),
        topk=(1, 5),
    ),
)
_mutator = dict(type="NasMutator", resolutions=list(range(128, 225, 4)))
model = dict(type="OFA", input_shape=(3, 224, 224), width_mult=None, architecture=_supernet, mutator=_mutator)
