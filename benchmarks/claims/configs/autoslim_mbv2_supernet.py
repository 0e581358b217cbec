# python -m benchmarks.claims --job autoslim-mbv2-supernet
# MobileNetV2's blocks at a size that a CPU trains: that of AutoSlim_TF2 times 0.25 takes it twice as long.
_base_ = "./autoslim.py"

model = dict(
    architecture=dict(
        backbone=dict(
            type="CifarMobileNetV2",
            stem_channels=12,
            settings=[(1, 8, 1, 1), (3, 14, 2, 2), (3, 28, 3, 2), (3, 48, 2, 1)],
            last_channels=192,
        ),
        head=dict(in_channels=192),
    ),
)
