# python ./tools/search.py configs/pruning/autoslim/autoslim_search_digits.py CKPT --work-dir W2
# Hardware: 2 CPU cores, under a minute; the second of the five steps of `make demo`.
_base_ = ["./autoslim_supernet_digits.py", "../../_base_/autoslim_search.py"]

search_cfg = dict(
    target_macs=[0.75, 0.4],
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=256,
)
