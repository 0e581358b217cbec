# TF-NAS's search: SGD for the weights on a cosine, Adam for the architecture (train_search.py of the authors).
optim_wrapper = dict(
    constructor="SeparateOptimWrapperConstructor",
    architecture=dict(
        type="SubnetOptimWrapper",
        optimizer=dict(type="SGD", lr=0.025, momentum=0.9, weight_decay=1e-5),
        clip_grad=dict(max_norm=5.0),
    ),
    arch_parameters=dict(
        type="SubnetOptimWrapper",
        optimizer=dict(type="Adam", lr=0.01, betas=(0.5, 0.999), weight_decay=5e-4),
        clip_grad=dict(max_norm=5.0),
    ),
)
param_scheduler = dict(
    architecture=[dict(type="CosineAnnealingLR", T_max=90, eta_min=0.0, by_epoch=True, begin=0, end=90)],
    arch_parameters=[],
)
val_cfg = dict()
test_cfg = dict()
