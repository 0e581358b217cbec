# python -m benchmarks.claims --job autoslim-mbv2-supernet
# MobileNetV2 0.25x of AutoSlim_TF2.
_base_ = "./autoslim.py"

model = dict(architecture=dict(backbone=dict(type="CifarMobileNetV2", widen_factor=0.25), head=dict(in_channels=320)))
