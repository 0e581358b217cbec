# python ./tools/mmcls/train_mmcls.py configs/pruning/autoslim/autoslim_mbv2_subnet_8xb256_in1k.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=A.yaml,B.yaml,C.yaml
# Hardware: 8 GPUs x 256 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: the three subnets in one model. MMRazor's README gives, after splitting, 74.23 / 72.73 / 71.39 % top-1 at
# 6.50 / 5.77 / 4.13 M params and 529.26 / 320.25 / 221.41 M flops (504.93 / 305.07 / 206.77 M macs).
_base_ = "./autoslim_mbv2_supernet_8xb256_in1k.py"

model = dict(
    # A list trains the subnets jointly, a batch norm for each; one file is the plain network of that subnet.
    channel_cfg=[
        "{{ fileDirname }}/AUTOSLIM_MBV2_530M_OFFICIAL.yaml",
        "{{ fileDirname }}/AUTOSLIM_MBV2_320M_OFFICIAL.yaml",
        "{{ fileDirname }}/AUTOSLIM_MBV2_220M_OFFICIAL.yaml",
    ],
    distiller=None,
    num_random_samples=None,
)
# All images train: nothing is searched any more.
train_dataloader = dict(dataset=dict(part="all"))
param_scheduler = dict(end=300)
train_cfg = dict(max_epochs=300)
