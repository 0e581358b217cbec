# python ./tools/train.py configs/any_model/my_net_supernet_cifar10.py --work-dir W1
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "../_base_/any_model_cifar10.py"

model = dict(
    # my_net.py beside this file, found from the repository's root; `loss` is any of mmpretrain's.
    architecture=dict(
        type="configs.any_model.my_net.MyNet",
        width=12,
        num_classes=10,
        loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=10, loss_weight=1.0),
    ),
)
