# python ./tools/search.py configs/any_model/shufflenet_search_cifar10.py CKPT --work-dir W2
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./shufflenet_supernet_cifar10.py"

search_cfg = dict(
    target_macs=["75%", "50%"],
    searcher=dict(type="GreedySearcher", max_channel_bins=4),
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    score_key="accuracy/top1",
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=512,
)
