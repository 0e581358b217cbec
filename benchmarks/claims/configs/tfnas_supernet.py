# python -m benchmarks.claims --job tfnas-table
# The blocks of TF-NAS for 16x16 images: six of them in three stages of any depth, on maps of 8, 4 and 4 pixels.
_base_ = ["./task.py", "../../../configs/_base_/models/tfnas_cifar10.py"]

model = dict(
    input_shape=(3, 16, 16),
    architecture=dict(
        backbone=dict(
            arch_setting=[[8, 2, 2, "ReLU"], [16, 2, 2, "SiLU"], [24, 2, 1, "SiLU"]],
            stem_channels=(8, 8),
            stem_stride=1,
            last_channels=96,
        ),
        head=dict(in_channels=96, topk=(1,)),
    ),
)
channels_last = True
