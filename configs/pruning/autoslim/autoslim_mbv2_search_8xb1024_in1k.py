# python ./tools/mmcls/search_mmcls.py configs/pruning/autoslim/autoslim_mbv2_search_8xb1024_in1k.py CKPT --work-dir W2
# Hardware: 8 GPUs x 1024 images (bash tools/dist_search.sh CONFIG CKPT 8); time: not measured here yet.
# Result: one subnet file per budget. The channels that AutoSlim's authors found are in
# AUTOSLIM_MBV2_{530M,320M,220M}_OFFICIAL.yaml; retrained by MMRazor: 74.23 / 72.73 / 71.39 % top-1 (its README).
_base_ = ["./autoslim_mbv2_supernet_8xb256_in1k.py", "../../_base_/autoslim_search.py"]

search_cfg = dict(
    # Millions of flops as MMRazor counts them, about 5% more than multiply-adds (target_macs).
    target_flops=[500, 300, 200],
    searcher=dict(max_channel_bins=12),
    dataloader=dict(batch_size=1024, **_base_._search_dataloader),
    evaluator=_base_.val_evaluator,
    # Batch norm of every candidate: cumulative statistics of the same training images.
    calibrate_dataloader=dict(batch_size=1024, **_base_._calibrate_dataloader),
    calibrate_sample_num=10240,
)
