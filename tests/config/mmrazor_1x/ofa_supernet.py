# BigNAS on the space of Once-for-All in MMRazor 1.x's form, at the size of a test.
_base_ = "./slim_base.py"

nas_backbone = dict(
    type="mmrazor.AttentiveMobileNetV3",
    arch_setting=dict(
        kernel_size=[[3, 3, 1], [3, 5, 2]],
        num_blocks=[[1, 1, 1], [1, 2, 1]],
        expand_ratio=[[1, 1, 1], [3, 4, 1], [2, 2, 1]],
        num_out_channels=[[8, 8, 8], [8, 8, 8], [8, 16, 8], [16, 32, 16]],
    ),
    out_indices=(2,),
    stride_list=[1, 2],
    with_se_list=[False, True],
    act_cfg_list=["HSwish", "ReLU", "ReLU", "HSwish"],
    conv_cfg=dict(type="OFAConv2d"),
    norm_cfg=dict(type="mmrazor.DynamicBatchNorm2d", momentum=0.1),
    fine_grained_mode=True,
    with_attentive_shortcut=False,
)
supernet = dict(
    _scope_="mmrazor",
    type="SearchableImageClassifier",
    data_preprocessor=_base_.data_preprocessor,
    backbone=nas_backbone,
    neck=dict(type="mmcls.GlobalAveragePooling"),
    head=dict(type="DynamicLinearClsHead", num_classes=10, in_channels=32, topk=(1, 5)),
    input_resizer_cfg=dict(input_sizes=[[16, 16], [24, 24]]),
    connect_head=dict(connect_with_backbone="backbone.last_mutable_channels"),
)
model = dict(
    _delete_=True,
    _scope_="mmrazor",
    type="BigNAS",
    drop_path_rate=0.4,
    backbone_dropout_stages=[2],
    num_random_samples=1,
    architecture=supernet,
    distiller=dict(
        type="ConfigurableDistiller",
        teacher_recorders=dict(fc=dict(type="ModuleOutputs", source="head.fc")),
        student_recorders=dict(fc=dict(type="ModuleOutputs", source="head.fc")),
        distill_losses=dict(kl=dict(type="KLDivergence")),
        loss_forward_mappings=dict(
            kl=dict(preds_S=dict(recorder="fc", from_student=True), preds_T=dict(recorder="fc", from_student=False))
        ),
    ),
    mutators=dict(type="mmrazor.NasMutator"),
)
model_wrapper_cfg = dict(type="mmrazor.BigNASDDP", broadcast_buffers=False, find_unused_parameters=True)
val_cfg = dict(type="mmrazor.SubnetValLoop", calibrate_sample_num=32)
test_cfg = dict(type="mmrazor.SubnetValLoop", calibrate_sample_num=32)
