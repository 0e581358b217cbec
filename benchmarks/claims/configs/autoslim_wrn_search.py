# python -m benchmarks.claims --job autoslim-wrn-search
_base_ = ["./autoslim_wrn_supernet.py", "../../../configs/_base_/autoslim_search.py"]

search_cfg = dict(
    target_macs=["50%", "30%"],
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=4096,
)
