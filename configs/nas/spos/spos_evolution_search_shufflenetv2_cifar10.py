# python ./tools/search.py configs/nas/spos/spos_evolution_search_shufflenetv2_cifar10.py CKPT --work-dir W2
# Hardware: 2 CPU cores, or any GPU; time and result: docs/results.md.
_base_ = ["./spos_supernet_shufflenetv2_cifar10.py", "../../_base_/spos_search.py"]

search_cfg = dict(
    constraints_range=dict(flops=(0, 0.95)),
    searcher=dict(max_epochs=10),
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=512,
)
