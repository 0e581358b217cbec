# python ./tools/search.py configs/nas/mmcls/onceforall/ofa_mobilenet_search_8xb128_in1k.py CKPT --work-dir W
# Scores every candidate on the held-out images. With a predictor (docs/ofa.md) instead, in seconds:
#   --cfg-options search_cfg.predictor=predictor.safetensors search_cfg.searcher.max_epochs=500
# Hardware: 8 GPUs x 128 images; not run here yet.
_base_ = ["./ofa_mobilenet_supernet_32xb64_in1k.py", "../../../_base_/spos_search.py"]

search_cfg = dict(
    constraints_range=dict(macs=(0, 300)),
    searcher=dict(num_candidates=100, top_k=25, num_mutation=50, num_crossover=50, mutate_prob=0.1, fill="mutation"),
    dataloader=dict(batch_size=128, **_base_._search_dataloader),
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=2000,
)
