# python -m benchmarks.claims --job autoslim-resnet-supernet
# ResNet-14 with half the channels: 8, 16, 32.
_base_ = "./autoslim.py"

model = dict(
    architecture=dict(backbone=dict(type="CifarResNet", depth=14, widen_factor=0.5), head=dict(in_channels=32))
)
