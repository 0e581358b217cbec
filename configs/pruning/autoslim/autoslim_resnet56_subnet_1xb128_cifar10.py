# python ./tools/train.py configs/pruning/autoslim/autoslim_resnet56_subnet_1xb128_cifar10.py --work-dir W3 \
#   --cfg-options model.fix_subnet=W2/SUBNET.yaml
# With the supernet's weights: ... model.init_weight_from_supernet=True model.init_cfg.checkpoint=CKPT
# Hardware: any GPU; time: not measured here yet.
# Result: AutoSlim_TF2 publishes 93.91 / 93.59 / 92.67 % for the baseline, 50% and 30% of its flops.
_base_ = "./autoslim_resnet56_supernet_1xb128_cifar10.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_base_.model,
    fix_subnet="{{ fileDirname }}/AUTOSLIM_RESNET56_CIFAR10_50_TF2.yaml",
    init_weight_from_supernet=False,
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(dataset=dict(part="all"))
param_scheduler = dict(_delete_=True, type="MultiStepLR", milestones=[60, 120, 160], gamma=0.2, by_epoch=True)
train_cfg = dict(max_epochs=200, val_interval=1)
