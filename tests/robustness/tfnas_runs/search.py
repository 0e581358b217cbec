# A search of TF-NAS that takes seconds: four blocks that are built alike, so that one trace of each operator serves
# all. So short a search may miss its target.
_base_ = "../../../configs/nas/tfnas/tfnas_search_digits.py"

_backbone = dict(arch_setting=[[8, 2, 1, "ReLU"], [8, 2, 1, "ReLU"]], stem_channels=(8, 8), last_channels=16)
model = dict(
    architecture=dict(backbone=_backbone, head=dict(in_channels=16)),
    epochs_without_arch=1,
    target_latency="40%",
    tolerance=0.9,
)
train_dataloader = dict(batch_size=16, dataset=dict(dataset=dict(indices=80)))
train_cfg = dict(
    max_epochs=3,
    val_interval=3,
    arch_dataloader=dict(batch_size=8, dataset=dict(dataset=dict(indices=80))),
)
val_dataloader = dict(dataset=dict(indices=20))
param_scheduler = dict(architecture=[dict(type="CosineAnnealingLR", T_max=3, eta_min=0.0, by_epoch=True, end=3)])
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
