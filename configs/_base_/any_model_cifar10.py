# All of an AutoSlim supernet on CIFAR-10 but the architecture; a config adds model=dict(architecture=dict(type=...)).
_base_ = ["./datasets/cifar10.py", "./schedules/autoslim_cifar10.py", "./runtime.py"]

channels_last = True
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
