# python -m benchmarks.claims --job autoslim-mbv2-supernet
# MobileNetV2's blocks at a size that a CPU trains: that of AutoSlim_TF2 times 0.25 takes it three times as long.
_base_ = "./autoslim.py"

model = dict(
    architecture=dict(
        backbone=dict(
            type="CifarMobileNetV2",
            stem_channels=8,
            settings=[(1, 8, 1, 1), (3, 12, 2, 2), (3, 24, 2, 2), (3, 40, 2, 1)],
            last_channels=128,
        ),
        head=dict(in_channels=128),
    ),
)
