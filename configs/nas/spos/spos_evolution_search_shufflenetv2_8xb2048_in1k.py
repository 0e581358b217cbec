# python ./tools/search.py configs/nas/spos/spos_evolution_search_shufflenetv2_8xb2048_in1k.py CKPT \
#   --work-dir W2
# Hardware: 8 GPUs x 2048 images (bash tools/dist_search.sh CONFIG CKPT 8); time: not measured here yet.
# Result: best_subnet.yaml and best_subnet.pth. What MMRazor found with these settings is in SPOS_SUBNET.yaml, what the
# authors of SPOS found in SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml.
_base_ = ["./spos_supernet_shufflenetv2_8xb128_in1k.py", "../../_base_/spos_search.py"]

search_cfg = dict(
    # Millions of flops as MMRazor counts them, 3 to 4% more than multiply-adds.
    constraints_range=dict(flops=(0, 330)),
    # Scored on the held-out training images. To score on the validation set instead:
    # --cfg-options search_cfg.dataloader.dataset.part=all search_cfg.dataloader.dataset.dataset.split=val
    dataloader=dict(
        batch_size=2048,
        num_workers=8,
        dataset=dict(type="HeldOut", part="held_out", fraction=0.04, dataset=_base_._held_out),
    ),
    evaluator=dict(type="Accuracy", topk=(1, 5)),
    # Batch norm of every candidate: cumulative statistics of the same training images.
    calibrate_dataloader=dict(
        batch_size=128,
        num_workers=8,
        dataset=dict(type="HeldOut", part="train", fraction=0.04, dataset=_base_._train),
    ),
    calibrate_sample_num=25600,
)
