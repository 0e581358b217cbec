# python ./tools/train.py configs/any_model/resnet10t_subnet_cifar10.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=A.yaml,B.yaml
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./resnet10t_supernet_cifar10.py"

model = dict(
    channel_cfg=[
        "work_dirs/resnet10t_search_cifar10/subnet_macs_4.23859M.yaml",
        "work_dirs/resnet10t_search_cifar10/subnet_macs_2.82573M.yaml",
    ],
    distiller=None,
    num_random_samples=None,
)
train_dataloader = dict(dataset=dict(part="all"))
