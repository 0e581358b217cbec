# The 21 blocks of ProxylessNAS (GPU) as MMRazor 1.x's configs name them (mmrazor::_base_/nas_backbones/): channels,
# blocks, stride and the choice of each stage; the first block is always the same.
def _choice(kernels, ratios, **more):
    relu6 = dict(type="ReLU6")
    candidates = {
        f"mb_k{kernel}e{ratio}": dict(type="MBBlock", kernel_size=kernel, expand_ratio=ratio, act_cfg=relu6)
        for ratio in ratios
        for kernel in kernels
    }
    return dict(type="OneShotMutableOP", candidates=dict(**candidates, **more))


_first = _choice([3], [1])
_block = _choice([3, 5, 7], [3, 6], identity=dict(type="Identity"))
del _choice
arch_setting = [
    [24, 1, 1, _first],
    [32, 4, 2, _block],
    [56, 4, 2, _block],
    [112, 4, 2, _block],
    [128, 4, 1, _block],
    [256, 4, 2, _block],
    [432, 1, 1, _block],
]
nas_backbone = dict(
    type="SearchableMobileNetV2", first_channels=40, last_channels=1728, widen_factor=1.0, arch_setting=arch_setting
)
