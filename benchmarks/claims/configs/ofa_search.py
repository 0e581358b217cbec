# python -m benchmarks.claims --job ofa-specialise
_base_ = ["./ofa_supernet.py", "../../../configs/_base_/spos_search.py"]

search_cfg = dict(
    constraints_range=dict(macs=(0, 1)),  # set by the command
    searcher=dict(max_epochs=100),
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=4096,
)
