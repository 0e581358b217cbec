# python ./tools/train.py configs/any_model/shufflenet_supernet_cifar10.py --work-dir W1
# Hardware: 2 CPU cores; time and result: docs/results.md.
_base_ = "../_base_/any_model_cifar10.py"

model = dict(
    # torchvision's ShuffleNetV2 0.5x as it is.
    architecture=dict(type="torchvision.shufflenet_v2_x0_5", num_classes=10),
)
