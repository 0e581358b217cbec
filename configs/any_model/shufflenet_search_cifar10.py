# python ./tools/search.py configs/any_model/shufflenet_search_cifar10.py CKPT --work-dir W2
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "./shufflenet_supernet_cifar10.py"

search_cfg = dict(
    target_macs=["75%", "50%"],
    searcher=dict(type="GreedySearcher", max_channel_bins=4),
    dataloader=dict(
        batch_size=500,
        num_workers=0,
        dataset=dict(type="HeldOut", part="held_out", fraction=0.05, dataset=_base_._held_out),
    ),
    evaluator=dict(type="Accuracy", topk=(1, 5)),
    score_key="accuracy/top1",
    calibrate_dataloader=dict(
        batch_size=256,
        num_workers=0,
        dataset=dict(type="HeldOut", part="train", fraction=0.05, dataset=_base_._train),
    ),
    calibrate_sample_num=512,
)
