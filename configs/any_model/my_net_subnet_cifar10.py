# python ./tools/train.py configs/any_model/my_net_subnet_cifar10.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=A.yaml,B.yaml
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./my_net_supernet_cifar10.py"

model = dict(
    channel_cfg=[
        "work_dirs/my_net_search_cifar10/subnet_macs_2.82082M.yaml",
        "work_dirs/my_net_search_cifar10/subnet_macs_1.88054M.yaml",
    ],
    distiller=None,
    num_random_samples=None,
)
train_dataloader = dict(dataset=dict(part="all"))
