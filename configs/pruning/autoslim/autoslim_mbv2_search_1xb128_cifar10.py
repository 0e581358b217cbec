# python ./tools/search.py configs/pruning/autoslim/autoslim_mbv2_search_1xb128_cifar10.py CKPT --work-dir W2
# Hardware: any GPU; time: not measured here yet.
# Result: a subnet file for 50% and one for 30% of the flops.
# AutoSlim_TF2's own, decoded from its picture: AUTOSLIM_MBV2_CIFAR10_50_TF2.yaml (38.2106 M macs).
_base_ = ["./autoslim_mbv2_supernet_1xb128_cifar10.py", "../../_base_/autoslim_search.py"]

search_cfg = dict(
    target_flops=["50%", "30%"],
    dataloader=_base_._search_dataloader,
    evaluator=_base_.val_evaluator,
    calibrate_dataloader=_base_._calibrate_dataloader,
    calibrate_sample_num=2048,
)
