# python ./tools/train.py configs/nas/spos/spos_subnet_shufflenetv2_cifar10.py --work-dir W3 \
#   --cfg-options model.fix_subnet=W2/best_subnet.yaml
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = "./spos_supernet_shufflenetv2_cifar10.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_base_._supernet,
    input_shape=(3, 32, 32),
    fix_subnet="work_dirs/spos_evolution_search_shufflenetv2_cifar10/best_subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(dataset=dict(part="all"))
