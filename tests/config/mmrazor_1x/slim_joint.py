_base_ = "./slim_base.py"

supernet = _base_.model
model = dict(
    _delete_=True,
    _scope_="mmrazor",
    type="SlimmableNetwork",
    architecture=supernet,
    data_preprocessor=_base_.data_preprocessor,
    mutator=dict(
        type="SlimmableChannelMutator",
        channel_unit_cfg=dict(type="SlimmableChannelUnit", units="units.json"),
        parse_cfg=dict(type="ChannelAnalyzer", demo_input=(1, 3, 16, 16), tracer_type="BackwardTracer"),
    ),
)
model_wrapper_cfg = dict(type="mmrazor.SlimmableNetworkDDP", find_unused_parameters=True)
val_cfg = dict(type="mmrazor.SlimmableValLoop")
