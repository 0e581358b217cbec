# python ./tools/search.py configs/pruning/autoslim/autoslim_resnet50_search_8xb1024_in1k.py CKPT --work-dir W2
# Hardware: 8 GPUs x 1024 images (bash tools/dist_search.sh CONFIG CKPT 8); time: not measured here yet.
# Result: one subnet file per budget. The channels that AutoSlim's authors found are in
# AUTOSLIM_RESNET50_{3005M,2006M,1000M,570M}_OFFICIAL.yaml; retrained by them: 76.0 / 75.6 / 74.0 / 72.2 % top-1.
_base_ = "./autoslim_resnet50_supernet_8xb256_in1k.py"

search_cfg = dict(
    target_macs=[3005, 2006, 1000, 570],  # millions, as the paper counts
    searcher=dict(type="GreedySearcher", max_channel_bins=12),
    # Scored on the held-out training images. To score on the validation set instead:
    # --cfg-options search_cfg.dataloader.dataset.part=all search_cfg.dataloader.dataset.dataset.split=val
    dataloader=dict(
        batch_size=1024,
        num_workers=8,
        dataset=dict(type="HeldOut", part="held_out", fraction=0.04, dataset=_base_._held_out),
    ),
    evaluator=dict(type="Accuracy", topk=(1, 5)),
    score_key="accuracy/top1",
    # Batch norm of every candidate: cumulative statistics of the same training images.
    calibrate_dataloader=dict(
        batch_size=1024,
        num_workers=8,
        dataset=dict(type="HeldOut", part="train", fraction=0.04, dataset=_base_._train),
    ),
    calibrate_sample_num=10240,
)
