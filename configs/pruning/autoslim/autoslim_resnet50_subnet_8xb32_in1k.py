# python ./tools/train.py configs/pruning/autoslim/autoslim_resnet50_subnet_8xb32_in1k.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=A.yaml,B.yaml,C.yaml
# Hardware: 8 GPUs x 32 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: the four subnets in one model. Published by AutoSlim's authors: 76.0 / 75.6 / 74.0 / 72.2 % top-1.
# Source of the values: slimmable_networks, apps/autoslim_resnet_train_val.yml (batch, learning rate and epochs of its
# basic section).
_base_ = "./autoslim_resnet50_supernet_8xb256_in1k.py"

model = dict(
    # A list trains the subnets jointly, a batch norm for each; one file is the plain network of that subnet.
    channel_cfg=[
        "{{ fileDirname }}/AUTOSLIM_RESNET50_3005M_OFFICIAL.yaml",
        "{{ fileDirname }}/AUTOSLIM_RESNET50_2006M_OFFICIAL.yaml",
        "{{ fileDirname }}/AUTOSLIM_RESNET50_1000M_OFFICIAL.yaml",
        "{{ fileDirname }}/AUTOSLIM_RESNET50_570M_OFFICIAL.yaml",
    ],
    distiller=None,
    num_random_samples=None,
)
# All images train: nothing is searched any more.
train_dataloader = dict(batch_size=32, dataset=dict(part="all"))
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(_delete_=True, type="MultiStepLR", milestones=[30, 60, 90], gamma=0.1, by_epoch=True)
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=256)
