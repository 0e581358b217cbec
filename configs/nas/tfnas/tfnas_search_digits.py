# python ./tools/latency/build_table.py configs/nas/tfnas/tfnas_search_digits.py --batch-size 256 -o W/latency.json
# python ./tools/train.py configs/nas/tfnas/tfnas_search_digits.py --work-dir W \
#   --cfg-options model.latency_table=W/latency.json
# Hardware: 1 CPU core; a smoke test of the whole recipe, its result says nothing. At a batch of one, 8x8 images take as
# long at every width, and no width could meet the target.
_base_ = [
    "../../_base_/datasets/digits.py",
    "../../_base_/models/tfnas_digits.py",
    "../../_base_/schedules/tfnas_search.py",
    "../../_base_/runtime.py",
]

# 80% of the images train the weights, 20% the architecture.
_arch_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    dataset=dict(type="HeldOut", part="held_out", fraction=0.2, dataset=_base_._train),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
param_scheduler = dict(
    architecture=[dict(type="CosineAnnealingLR", T_max=8, eta_min=0.0, by_epoch=True, end=8)], arch_parameters=[]
)
train_cfg = dict(type="PairedTrainLoop", max_epochs=8, val_interval=8, arch_dataloader=_arch_dataloader)
custom_hooks = [dict(type="ResourceHook"), dict(type="ElasticityHook")]
