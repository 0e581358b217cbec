# python ./tools/train.py configs/nas/spos/spos_subnet_digits.py --work-dir W3 \
#   --cfg-options model.fix_subnet=W2/best_subnet.yaml
# Hardware: 2 CPU cores, a minute or two.
_base_ = "./spos_supernet_digits.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_base_._supernet,
    input_shape=(3, 8, 8),
    fix_subnet="work_dirs/spos_evolution_search_digits/best_subnet.yaml",
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(dataset=dict(part="all"))
