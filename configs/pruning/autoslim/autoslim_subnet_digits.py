# python ./tools/train.py configs/pruning/autoslim/autoslim_subnet_digits.py --work-dir W3 \
#   --cfg-options algorithm.channel_cfg=A.yaml,B.yaml
# Hardware: 2 CPU cores, under a minute; the third of the five steps of `make demo`.
_base_ = "./autoslim_supernet_digits.py"

model = dict(
    channel_cfg=[
        "work_dirs/autoslim_search_digits/subnet_macs_0.75M.yaml",
        "work_dirs/autoslim_search_digits/subnet_macs_0.4M.yaml",
    ],
    distiller=None,
    num_random_samples=None,
)
train_dataloader = dict(dataset=dict(part="all"))
