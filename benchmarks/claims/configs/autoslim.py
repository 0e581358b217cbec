# What the AutoSlim supernets of the study share. The candidates of AutoSlim_TF2: 1/5 to 5/5 of the channels,
# rounded up.
_base_ = "./task.py"

model = dict(
    type="AutoSlim",
    input_shape=(3, 16, 16),
    architecture=dict(
        type="ImageClassifier",
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="LinearClsHead",
            num_classes=10,
            loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
            topk=(1,),
        ),
    ),
    mutator=dict(
        type="OneShotChannelMutator",
        candidate_choices=[0.2, 0.4, 0.6, 0.8, 1.0],
        choice_mode="ratio",
        divisor=1,
        min_ratio=1.0,
    ),
    distiller=dict(type="KLDivergence", tau=1.0, loss_weight=1.0),
    num_random_samples=2,
)
