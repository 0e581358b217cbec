# The 20 blocks of SPOS as MMRazor 1.x's configs name them (mmrazor::_base_/nas_backbones/): channels, blocks and the
# choice of each stage.
_block = dict(
    type="OneShotMutableOP",
    candidates=dict(
        **{f"shuffle_{size}x{size}": dict(type="ShuffleBlock", kernel_size=size) for size in (3, 5, 7)},
        shuffle_xception=dict(type="ShuffleXception"),
    ),
)
arch_setting = [[64, 4, _block], [160, 4, _block], [320, 8, _block], [640, 4, _block]]
nas_backbone = dict(type="SearchableShuffleNetV2", widen_factor=1.0, arch_setting=arch_setting)
