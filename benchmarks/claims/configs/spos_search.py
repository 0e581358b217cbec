# python -m benchmarks.claims --job spos-search
_base_ = ["./spos_supernet.py", "../../../configs/_base_/spos_search.py"]

search_cfg = dict(
    constraints_range=dict(flops=(0, 100)),  # the band of study.yaml, set by the job
    searcher=dict(max_epochs=10),
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=4096,
)
