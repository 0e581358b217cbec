# python ./tools/train.py configs/nas/spos/spos_subnet_mobilenet_proxyless_gpu_8xb128_in1k.py --work-dir W3 \
#   --cfg-options model.init_cfg.checkpoint=W2/best_subnet.pth
# Hardware: 8 GPUs x 128 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: MMRazor's README gives 75.98 % top-1 for this subnet of AngleNAS, at 5.94 M params and 0.49 G flops: 5,936,776
# params, 490,136,480 flops, 470,792,064 macs.
_base_ = "./spos_supernet_mobilenet_proxyless_gpu_8xb128_in1k.py"

model = dict(
    _delete_=True,
    type="sub_model",
    cfg=_base_._supernet,
    input_shape=(3, 224, 224),
    fix_subnet="{{ fileDirname }}/SPOS_MOBILENET_490M_FROM_ANGELNAS.yaml",
    # Empty: trained from scratch. A searched file brings its own subnet, which then counts.
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
# All images train: nothing is searched any more.
train_dataloader = dict(dataset=dict(part="all"))
param_scheduler = dict(end=300000)
train_cfg = dict(max_iters=300000)
