# What AutoSlim needs beside an architecture, for 32x32 images; a config adds model=dict(architecture=dict(type=...)).
model = dict(
    type="AutoSlim",
    input_shape=(3, 32, 32),
    mutator=dict(
        type="OneShotChannelMutator",
        candidate_choices=[i / 6 for i in range(1, 7)],
        choice_mode="ratio",
        divisor=4,
    ),
    distiller=dict(type="KLDivergence", tau=1.0, loss_weight=1.0),
    num_random_samples=2,
)
