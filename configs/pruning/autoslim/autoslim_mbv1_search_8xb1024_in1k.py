# python ./tools/search.py configs/pruning/autoslim/autoslim_mbv1_search_8xb1024_in1k.py CKPT --work-dir W2
# Hardware: 8 GPUs x 1024 images (bash tools/dist_search.sh CONFIG CKPT 8); time: not measured here yet.
# Result: one subnet file per budget. The channels that AutoSlim's authors found are in
# AUTOSLIM_MBV1_{572M,325M,150M}_OFFICIAL.yaml; retrained by them: 73.0 / 71.5 / 67.9 % top-1.
_base_ = ["./autoslim_mbv1_supernet_8xb256_in1k.py", "../../_base_/autoslim_search.py"]

search_cfg = dict(
    target_macs=[572, 325, 150],  # millions, as the paper counts
    searcher=dict(max_channel_bins=12),
    dataloader=dict(batch_size=1024, **_base_._search_dataloader),
    evaluator=_base_.val_evaluator,
    # Batch norm of every candidate: cumulative statistics of the same training images.
    calibrate_dataloader=dict(batch_size=1024, **_base_._calibrate_dataloader),
    calibrate_sample_num=10240,
)
