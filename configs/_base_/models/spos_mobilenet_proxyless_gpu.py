# The 21 blocks of ProxylessNAS (GPU) as AngleNAS searches them: mb_k{3,5,7}e{3,6} or identity. In a block that changes
# the shape, MMRazor's identity is a 1x1 convolution; backbone.identity="skip" is AngleNAS's rule, without it there.
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(type="SearchableMobileNet", arch_setting_type="proxyless_gpu", first_channels=40, last_channels=1728),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=1728,
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=1000, loss_weight=1.0),
        topk=(1, 5),
    ),
)
model = dict(type="SPOS", input_shape=(3, 224, 224), architecture=_supernet, mutator=dict(type="NasMutator"))
