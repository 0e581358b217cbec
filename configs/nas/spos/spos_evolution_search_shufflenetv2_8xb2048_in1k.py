# python ./tools/search.py configs/nas/spos/spos_evolution_search_shufflenetv2_8xb2048_in1k.py CKPT \
#   --work-dir W2
# Hardware: 8 GPUs x 2048 images (bash tools/dist_search.sh CONFIG CKPT 8); time: not measured here yet.
# Result: best_subnet.yaml and best_subnet.pth. What MMRazor found with these settings is in SPOS_SUBNET.yaml, what the
# authors of SPOS found in SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml.
_base_ = ["./spos_supernet_shufflenetv2_8xb128_in1k.py", "../../_base_/spos_search.py"]

search_cfg = dict(
    # Millions of flops as MMRazor counts them, 3 to 4% more than multiply-adds.
    constraints_range=dict(flops=(0, 330)),
    dataloader=dict(batch_size=2048, **_base_._search_dataloader),
    evaluator=_base_.val_evaluator,
    # Batch norm of every candidate: cumulative statistics of the same training images.
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=25600,
)
