# python ./tools/search.py configs/nas/mmcls/onceforall/ofa_search_digits.py CKPT --work-dir W
# Hardware: 2 CPU cores.
_base_ = ["./ofa_supernet_digits.py", "../../../_base_/spos_search.py"]

search_cfg = dict(
    constraints_range=dict(macs=(0, 0.15)),
    searcher=dict(max_epochs=5, num_candidates=12, top_k=4, num_mutation=4, num_crossover=4),
    dataloader=dict(
        batch_size=500,
        num_workers=0,
        dataset=dict(type="HeldOut", part="held_out", fraction=0.2, dataset=_base_._held_out),
    ),
    evaluator=dict(type="Accuracy", topk=(1,)),
    calibrate_dataloader=dict(
        batch_size=256,
        num_workers=0,
        dataset=dict(type="HeldOut", part="train", fraction=0.2, dataset=_base_._train),
    ),
    calibrate_sample_num=256,
)
