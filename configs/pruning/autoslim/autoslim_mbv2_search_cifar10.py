# python ./tools/search.py configs/pruning/autoslim/autoslim_mbv2_search_cifar10.py CKPT --work-dir W2
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = ["./autoslim_mbv2_supernet_cifar10.py", "../../_base_/autoslim_search.py"]

search_cfg = dict(
    target_macs=["50%"],
    searcher=dict(max_channel_bins=6),
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=512,
)
