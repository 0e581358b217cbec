# python -m benchmarks.claims --job spos-supernet
# Nine places in three stages of 8, 16 and 32 channels, six candidates each: 10 million paths of 0.14 M to 4.1 M macs.
# Depthwise blocks, those of the paper, take a CPU four times as long for the same macs.
_base_ = "./task.py"
custom_imports = dict(imports=["benchmarks.claims.blocks"], allow_failed_imports=False)

_candidates = dict(
    k3e1=dict(type="DenseBlock", kernel_size=3, expand_ratio=1),
    k3e2=dict(type="DenseBlock", kernel_size=3, expand_ratio=2),
    k3e3=dict(type="DenseBlock", kernel_size=3, expand_ratio=3),
    k5e1=dict(type="DenseBlock", kernel_size=5, expand_ratio=1),
    reduce=dict(type="DenseBlock", kernel_size=3, expand_ratio=0.5, reduce=True),
    identity=dict(type="Identity"),
)
_choice = dict(type="OneShotMutableOP", candidates=_candidates)
_supernet = dict(
    type="ImageClassifier",
    backbone=dict(
        type="SearchableMobileNet",
        arch_setting=[[8, 3, 1, _choice], [16, 3, 2, _choice], [32, 3, 2, _choice]],
        first_channels=8,
        last_channels=128,
        stem_stride=1,
        act_cfg=dict(type="ReLU"),
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=128,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        topk=(1,),
    ),
)
model = dict(type="SPOS", input_shape=(3, 16, 16), architecture=_supernet, mutator=dict(type="NasMutator"))
channels_last = True
