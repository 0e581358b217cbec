_base_ = "./slim_base.py"

supernet = _base_.model
supernet.head.topk = (1, 2)
samples = 1
demo = (1, 3, 16, 16)
model = dict(
    _delete_=True,
    _scope_="mmrazor",
    type="AutoSlim",
    num_random_samples=samples,
    architecture=supernet,
    data_preprocessor=_base_.data_preprocessor,
    distiller=dict(
        type="ConfigurableDistiller",
        teacher_recorders=dict(fc=dict(type="ModuleOutputs", source="head.fc")),
        student_recorders=dict(fc=dict(type="ModuleOutputs", source="head.fc")),
        distill_losses=dict(kl=dict(type="KLDivergence", tau=1, loss_weight=1)),
        loss_forward_mappings=dict(
            kl=dict(preds_S=dict(recorder="fc", from_student=True), preds_T=dict(recorder="fc", from_student=False))
        ),
    ),
    mutator=dict(
        type="OneShotChannelMutator",
        channel_unit_cfg=dict(
            type="OneShotMutableChannelUnit",
            default_args=dict(candidate_choices=[i / 4 for i in (2, 4)], choice_mode="ratio", divisor=4),
        ),
        parse_cfg=dict(type="ChannelAnalyzer", demo_input=demo, tracer_type="BackwardTracer"),
    ),
)
model_wrapper_cfg = dict(type="mmrazor.AutoSlimDDP", broadcast_buffers=False, find_unused_parameters=False)
val_cfg = dict(type="mmrazor.SubnetValLoop", calibrate_sample_num=32)
