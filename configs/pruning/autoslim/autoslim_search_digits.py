# python ./tools/search.py configs/pruning/autoslim/autoslim_search_digits.py CKPT --work-dir W2
# Hardware: 2 CPU cores, under a minute; the second of the five steps of `make demo`.
_base_ = "./autoslim_supernet_digits.py"

search_cfg = dict(
    target_macs=[0.75, 0.4],
    searcher=dict(type="GreedySearcher"),
    dataloader=dict(
        batch_size=500,
        num_workers=0,
        dataset=dict(type="HeldOut", part="held_out", fraction=0.2, dataset=_base_._held_out),
    ),
    evaluator=dict(type="Accuracy", topk=(1,)),
    score_key="accuracy/top1",
    calibrate_dataloader=dict(
        batch_size=256,
        num_workers=0,
        dataset=dict(type="HeldOut", part="train", fraction=0.2, dataset=_base_._train),
    ),
    calibrate_sample_num=256,
)
