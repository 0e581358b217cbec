# python ./tools/latency/build_table.py configs/nas/tfnas/tfnas_search_cifar10.py --batch-size 32 -o W/latency.json
# python ./tools/train.py configs/nas/tfnas/tfnas_search_cifar10.py --work-dir W \
#   --cfg-options model.latency_table=W/latency.json model.target_latency=40%
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = [
    "../../_base_/datasets/cifar10.py",
    "../../_base_/models/tfnas_cifar10.py",
    "../../_base_/schedules/tfnas_search.py",
    "../../_base_/runtime.py",
]

# An eighth of the images, for a CPU; of these, 80% train the weights and 20% the architecture.
_some = dict(type="HeldOut", part="held_out", fraction=0.125, seed=1, dataset=_base_._train)
train_dataloader = dict(batch_size=64, num_workers=1, dataset=dict(fraction=0.2, dataset=dict(_delete_=True, **_some)))
_arch_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    dataset=dict(type="HeldOut", part="held_out", fraction=0.2, dataset=_some),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
optim_wrapper = dict(architecture=dict(optimizer=dict(lr=0.05)), arch_parameters=dict(optimizer=dict(lr=0.02)))
param_scheduler = dict(
    architecture=[dict(type="CosineAnnealingLR", T_max=12, eta_min=0.0, by_epoch=True, end=12)], arch_parameters=[]
)
train_cfg = dict(type="PairedTrainLoop", max_epochs=12, val_interval=4, arch_dataloader=_arch_dataloader)
custom_hooks = [dict(type="ResourceHook"), dict(type="ElasticityHook")]
channels_last = True
