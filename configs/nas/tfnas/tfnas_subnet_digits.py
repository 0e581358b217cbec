# python ./tools/train.py configs/nas/tfnas/tfnas_subnet_digits.py --work-dir W2 \
#   --cfg-options model.init_cfg.checkpoint=W/epoch_8.pth
# Hardware: 1 CPU core; a smoke test, its result says nothing.
_base_ = [
    "../../_base_/datasets/digits.py",
    "../../_base_/models/tfnas_digits.py",
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
    input_shape=(3, 8, 8),
    fix_subnet="work_dirs/tfnas_search_digits/best_subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(dataset=dict(part="all"))
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=1e-4))
param_scheduler = [dict(type="CosineAnnealingLR", T_max=10, eta_min=0.0, by_epoch=True, end=10)]
train_cfg = dict(max_epochs=10, val_interval=10)
auto_scale_lr = dict(base_batch_size=64)
