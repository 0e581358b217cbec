# python ./tools/train.py configs/any_model/resnet10t_supernet_cifar10.py --work-dir W1
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "../_base_/any_model_cifar10.py"

model = dict(
    # timm's ResNet-10-T with narrow stages and squeeze-and-excitation; everything but the type is timm's own argument.
    architecture=dict(
        type="timm.resnet10t",
        num_classes=10,
        stem_width=16,
        channels=(32, 64, 128, 256),
        block_args=dict(attn_layer="se"),
    ),
)
