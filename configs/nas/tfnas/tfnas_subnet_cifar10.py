# python ./tools/train.py configs/nas/tfnas/tfnas_subnet_cifar10.py --work-dir W2 \
#   --cfg-options model.init_cfg.checkpoint=W/epoch_12.pth
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = [
    "../../_base_/datasets/cifar10.py",
    "../../_base_/models/tfnas_cifar10.py",
    "../../_base_/schedules/tfnas_retrain.py",
    "../../_base_/runtime.py",
]

_net = dict(_base_._supernet)
_net["backbone"] = dict(_base_._supernet["backbone"], norm_cfg=dict(type="BN"))
model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_net,
    mutator=dict(type="NasMutator"),
    input_shape=(3, 32, 32),
    fix_subnet="work_dirs/tfnas_search_cifar10/best_subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(batch_size=64, num_workers=1, dataset=dict(part="all"))
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
param_scheduler = [dict(type="CosineAnnealingLR", T_max=20, eta_min=0.0, by_epoch=True, end=20)]
train_cfg = dict(max_epochs=20, val_interval=5)
auto_scale_lr = dict(base_batch_size=64)
channels_last = True
