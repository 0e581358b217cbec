# python -m benchmarks.claims --job tfnas-search-45
# The 45,000 images train the weights, the 5,000 that are held out the architecture. Two optimizers, as in
# configs/_base_/schedules/tfnas_search.py; epochs, targets and temperature are those of study.yaml.
_base_ = "./tfnas_supernet.py"

_arch_dataloader = dict(
    batch_size=128,
    drop_last=True,
    num_workers=0,
    collate_fn=dict(type="whole_batch"),
    dataset=dict(type="HeldOut", part="held_out", fraction=0.1, dataset=_base_._augmented),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
optim_wrapper = dict(
    _delete_=True,
    constructor="SeparateOptimWrapperConstructor",
    architecture=dict(
        type="SubnetOptimWrapper",
        optimizer=dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=1e-5),
        clip_grad=dict(max_norm=5.0),
    ),
    arch_parameters=dict(
        type="SubnetOptimWrapper",
        optimizer=dict(type="Adam", lr=0.02, betas=(0.5, 0.999), weight_decay=5e-4),
        clip_grad=dict(max_norm=5.0),
    ),
)
param_scheduler = dict(
    _delete_=True,
    architecture=[dict(type="CosineAnnealingLR", T_max=24, eta_min=0.0, by_epoch=True, begin=0, end=24)],
    arch_parameters=[],
)
train_cfg = dict(
    _delete_=True, type="PairedTrainLoop", max_epochs=24, val_interval=24, arch_dataloader=_arch_dataloader
)
custom_hooks = [dict(type="ResourceHook"), dict(type="ElasticityHook")]
