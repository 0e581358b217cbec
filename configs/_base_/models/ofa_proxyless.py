# ProxylessNAS of Once-for-All at width 1.3; the largest subnet has 7.94 M params and 1,005 M macs at 224.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(type="OFAProxylessNAS", width_mult=1.3),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=1664,
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=1000, loss_weight=1.0),
        topk=(1, 5),
    ),
)
_mutator = dict(type="NasMutator", resolutions=list(range(128, 225, 4)))
model = dict(type="OFA", input_shape=(3, 224, 224), width_mult=None, architecture=_supernet, mutator=_mutator)
