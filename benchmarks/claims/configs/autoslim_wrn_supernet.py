# python -m benchmarks.claims --job autoslim-wrn-supernet
# WRN-16-1 with half the channels: norms before convolutions.
_base_ = "./autoslim.py"

model = dict(
    architecture=dict(
        backbone=dict(type="CifarWideResNet", depth=16, widen=1, widen_factor=0.5), head=dict(in_channels=32)
    )
)
