# python ./tools/train.py configs/any_model/shufflenet_subnet_cifar10.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=A.yaml,B.yaml
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./shufflenet_supernet_cifar10.py"

model = dict(
    channel_cfg=[
        "work_dirs/shufflenet_search_cifar10/subnet_macs_0.611544M.yaml",
        "work_dirs/shufflenet_search_cifar10/subnet_macs_0.407696M.yaml",
    ],
    distiller=None,
    num_random_samples=None,
)
train_dataloader = dict(dataset=dict(part="all"))
