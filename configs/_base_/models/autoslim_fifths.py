# An AutoSlim supernet of a classifier of 32x32 images without its backbone. The candidates of AutoSlim_TF2
# (slim_util.py): from minimum_rate 0.2 in steps of search_step 0.2, channels = ceil(ratio * width).
model = dict(
    type="AutoSlim",
    input_shape=(3, 32, 32),
    architecture=dict(
        type="ImageClassifier",
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=10, loss=dict(type="CrossEntropyLoss", loss_weight=1.0)),
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
