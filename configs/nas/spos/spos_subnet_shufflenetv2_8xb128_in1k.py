# python ./tools/train.py configs/nas/spos/spos_subnet_shufflenetv2_8xb128_in1k.py --work-dir W3 \
#   --cfg-options model.init_cfg.checkpoint=W2/best_subnet.pth
# Hardware: 8 GPUs x 128 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: MMRazor's README gives 73.87 % top-1 for this subnet, at 3.35 M params and 0.33 G flops: 3,353,592 params,
# 327,544,320 flops, 316,019,520 macs. SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml is another one, of 3,558,952 params.
_base_ = "./spos_supernet_shufflenetv2_8xb128_in1k.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_base_._supernet,
    input_shape=(3, 224, 224),
    fix_subnet="{{ fileDirname }}/SPOS_SUBNET.yaml",
    # Empty: trained from scratch. A searched file brings its own subnet, which then counts.
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
# All images train: nothing is searched any more.
train_dataloader = dict(dataset=dict(part="all"))
param_scheduler = dict(end=300000)
train_cfg = dict(max_iters=300000)
