# python ./tools/train.py configs/pruning/autoslim/autoslim_mnasnet_subnet_8xb256_in1k.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=A.yaml,B.yaml,C.yaml
# Hardware: 8 GPUs x 256 images (bash tools/dist_train.sh CONFIG 8); time: not measured here yet.
# Result: the three subnets in one model. Published by AutoSlim's authors: 75.4 / 74.6 / 73.2 % top-1.
# Source of the values: slimmable_networks, apps/autoslim_mnasnet_train_val.yml.
_base_ = "./autoslim_mnasnet_supernet_8xb256_in1k.py"

model = dict(
    # A list trains the subnets jointly, a batch norm for each; one file is the plain network of that subnet.
    channel_cfg=[
        "{{ fileDirname }}/AUTOSLIM_MNASNET_532M_OFFICIAL.yaml",
        "{{ fileDirname }}/AUTOSLIM_MNASNET_315M_OFFICIAL.yaml",
        "{{ fileDirname }}/AUTOSLIM_MNASNET_217M_OFFICIAL.yaml",
    ],
    distiller=None,
    num_random_samples=None,
)
# All images train: nothing is searched any more.
train_dataloader = dict(dataset=dict(part="all"))
param_scheduler = dict(end=300)
train_cfg = dict(max_epochs=300)
