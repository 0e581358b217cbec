# A supernet of SPOS in the spelling of MMRazor 1.x, at the size of a test.
norm = dict(type="BN", eps=0.001)
block_choice = dict(
    _scope_="mmrazor",
    type="OneShotMutableOP",
    candidates=dict(
        shuffle_3x3=dict(type="ShuffleBlock", kernel_size=3, norm_cfg=norm),
        shuffle_xception=dict(type="ShuffleXception", norm_cfg=norm),
    ),
)
stages = [[8, 2, block_choice]]
nas_backbone = dict(
    _scope_="mmrazor",
    type="SearchableShuffleNetV2",
    widen_factor=1.0,
    last_channels=16,
    arch_setting=stages,
)
preprocess_cfg = dict(mean=[77.9] * 3, std=[95.9] * 3, to_rgb=True)

supernet = dict(
    _scope_="mmcls",
    type="ImageClassifier",
    data_preprocessor=preprocess_cfg,
    backbone=nas_backbone,
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=16,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original", num_classes=10, loss_weight=1.0),
        topk=(1, 5),
    ),
)
model = dict(
    type="mmrazor.SPOS",
    architecture=supernet,
    mutator=dict(type="mmrazor.NasMutator"),
    input_shape=(3, 16, 16),
)
find_unused_parameters = True
default_scope = "mmcls"

train_pipeline = [dict(type="mmcls.PackClsInputs")]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(type="Digits", split="train", size=16, pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
    persistent_workers=False,
)
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(type="Digits", split="test", size=16, pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="mmcls.Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.5, momentum=0.9, weight_decay=4e-5),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=None,
)
param_scheduler = dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=4)
train_cfg = dict(by_epoch=False, max_iters=4, val_interval=4)
val_cfg = dict(
    type="mmrazor.SubnetValLoop",
    calibrate_sample_num=64,
    estimator_cfg=dict(type="mmrazor.ResourceEstimator", flops_params_cfg=dict(input_shape=(1, 3, 16, 16))),
)
test_cfg = dict(type="mmrazor.SubnetValLoop", calibrate_sample_num=64)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=100),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=4, max_keep_ckpts=1),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="mmcls.VisualizationHook", enable=False),
)
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="mmcls.ClsVisualizer", vis_backends=vis_backends)
log_level = "INFO"
load_from = None
resume = False
