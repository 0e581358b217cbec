# The space of Once-for-All in MMRazor 1.x's form (mmrazor::_base_/nas_backbones/): a range [first, last, step] for each
# of six stages, of which the first one has no choice; beside them the channels of the stem and of the tail.
_elastic = 5
arch_setting = dict(
    kernel_size=[[3, 3, 1], *[[3, 7, 2]] * _elastic],
    num_blocks=[[1, 1, 1], *[[2, 4, 1]] * _elastic],
    expand_ratio=[[1, 1, 1], *[[3, 6, 1]] * _elastic, [6, 6, 1]],
    num_out_channels=[
        [16, 16, 8], [16, 16, 8], [16, 24, 8], [24, 40, 8], [40, 80, 8], [80, 112, 8], [112, 160, 8], [1024, 1280, 256],
    ],
)  # fmt: skip
input_resizer_cfg = dict(input_sizes=[[size, size] for size in (128, 140, 144, 152, 192, 204, 224, 256)])
nas_backbone = dict(
    type="mmrazor.AttentiveMobileNetV3",
    arch_setting=arch_setting,
    out_indices=(6,),
    stride_list=[1, 2, 2, 2, 1, 2],
    with_se_list=[False, False, True, False, True, True],
    act_cfg_list=["HSwish", *["ReLU"] * 3, *["HSwish"] * 5],
    conv_cfg=dict(type="OFAConv2d"),
    norm_cfg=dict(type="mmrazor.DynamicBatchNorm2d", momentum=0.1),
    fine_grained_mode=True,
    with_attentive_shortcut=False,
)
