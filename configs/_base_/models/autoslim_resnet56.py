# ResNet-56 for 32x32 images; every width takes 1/5 to 5/5 of its channels, rounded up, as in AutoSlim_TF2.
_base_ = "./autoslim_fifths.py"

model = dict(
    architecture=dict(
        backbone=dict(type="CifarResNet", depth=56),
        head=dict(in_channels=64),
    ),
)
