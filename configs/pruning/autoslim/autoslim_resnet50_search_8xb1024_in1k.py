# python ./tools/search.py configs/pruning/autoslim/autoslim_resnet50_search_8xb1024_in1k.py CKPT --work-dir W2
# Hardware: 8 GPUs x 1024 images (bash tools/dist_search.sh CONFIG CKPT 8); time: not measured here yet.
# Result: one subnet file per budget. The channels that AutoSlim's authors found are in
# AUTOSLIM_RESNET50_{3005M,2006M,1000M,570M}_OFFICIAL.yaml; retrained by them: 76.0 / 75.6 / 74.0 / 72.2 % top-1.
_base_ = ["./autoslim_resnet50_supernet_8xb256_in1k.py", "../../_base_/autoslim_search.py"]

search_cfg = dict(
    target_macs=[3005, 2006, 1000, 570],  # millions, as the paper counts
    searcher=dict(max_channel_bins=12),
    dataloader=dict(batch_size=1024, **_base_._search_dataloader),
    evaluator=_base_.val_evaluator,
    # Batch norm of every candidate: cumulative statistics of the same training images.
    calibrate_dataloader=dict(batch_size=1024, **_base_._calibrate_dataloader),
    calibrate_sample_num=10240,
)
