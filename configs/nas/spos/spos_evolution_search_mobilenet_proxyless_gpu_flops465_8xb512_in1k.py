# python ./tools/search.py configs/nas/spos/spos_evolution_search_mobilenet_proxyless_gpu_flops465_8xb512_in1k.py CKPT \
#   --work-dir W2
# Hardware: 8 GPUs x 512 images (bash tools/dist_search.sh CONFIG CKPT 8); time: not measured here yet.
# Result: best_subnet.yaml and best_subnet.pth. What AngleNAS found under 475 M of its own count is in
# SPOS_MOBILENET_490M_FROM_ANGELNAS.yaml.
_base_ = ["./spos_supernet_mobilenet_proxyless_gpu_8xb128_in1k.py", "../../_base_/spos_search.py"]

search_cfg = dict(
    # Millions of flops as MMRazor counts them, 3 to 4% more than multiply-adds.
    constraints_range=dict(flops=(0, 465)),
    # Scored on the held-out training images. To score on the validation set instead:
    # --cfg-options search_cfg.dataloader.dataset.part=all search_cfg.dataloader.dataset.dataset.split=val
    dataloader=dict(
        batch_size=512,
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
