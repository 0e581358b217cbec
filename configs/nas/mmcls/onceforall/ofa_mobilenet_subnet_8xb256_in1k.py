# CUDA_VISIBLE_DEVICES=0 PORT=29500 ./tools/dist_test.sh \
#   configs/nas/mmcls/onceforall/ofa_mobilenet_subnet_8xb256_in1k.py none 1 --work-dir W \
#   --cfg-options model.init_cfg.checkpoint=CKPT model.init_weight_from_supernet=False
# CKPT is what tools/specialize.py writes. With model.init_weight_from_supernet=True it is a supernet, whose batch norm
# statistics fit no subnet: recalibrate (tools/specialize.py) before a test, or train.
# Result: MMRazor's README gives 70.3 % top-1 for this subnet: 4.305 M params, 67.2 M macs, 70.9 M flops at 140 x 140.
# Hardware: 8 GPUs x 256 images; not run here yet.
_base_ = "./ofa_mobilenet_supernet_32xb64_in1k.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=dict(architecture=_base_._supernet, mutator=_base_._mutator),
    input_shape=(3, 224, 224),
    fix_subnet="{{ fileDirname }}/OFA_SUBNET_NOTE8_LAT22.yaml",
    init_weight_from_supernet=False,
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(batch_size=256, dataset=dict(part="all"))
val_dataloader = dict(batch_size=256)
test_dataloader = dict(batch_size=256)
auto_scale_lr = dict(base_batch_size=2048)
