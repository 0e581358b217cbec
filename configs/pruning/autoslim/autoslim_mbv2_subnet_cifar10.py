# python ./tools/train.py configs/pruning/autoslim/autoslim_mbv2_subnet_cifar10.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=W2/SUBNET.yaml
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = "./autoslim_mbv2_supernet_cifar10.py"

model = dict(
    channel_cfg="work_dirs/autoslim_mbv2_search_cifar10/subnet_macs_2.71014M.yaml",
    distiller=None,
    num_random_samples=None,
)
train_dataloader = dict(dataset=dict(part="all"))
