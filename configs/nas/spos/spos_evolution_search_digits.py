# python ./tools/search.py configs/nas/spos/spos_evolution_search_digits.py CKPT --work-dir W2
# Hardware: 2 CPU cores, a minute or two.
_base_ = ["./spos_supernet_digits.py", "../../_base_/spos_search.py"]

search_cfg = dict(
    constraints_range=dict(flops=(0, 0.15)),
    searcher=dict(max_epochs=5, num_candidates=12, top_k=4, num_mutation=4, num_crossover=4),
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=256,
)
