# python ./tools/test.py configs/nas/mmcls/onceforall/ofa_subnet_cifar10.py none --work-dir W \
#   --cfg-options model.init_cfg.checkpoint=CKPT
# or, from scratch: python ./tools/train.py ... --cfg-options model.fix_subnet=SUBNET.yaml. Hardware: 2 CPU cores.
_base_ = "./ofa_supernet_cifar10.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=dict(architecture=_base_._supernet, mutator=_base_._mutator),
    input_shape=_base_.model.input_shape,
    fix_subnet="work_dirs/ofa_search_cifar10/best_subnet.yaml",
    init_weight_from_supernet=False,
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(dataset=dict(part="all"))
