"""Options that make a training and a search of digits small enough for runs of several processes."""

TIMEOUT = 10  # seconds to wait for another process
_NETWORK = [
    "model.architecture.backbone.settings=[]",
    "model.architecture.backbone.stem_channels=24",
    "model.architecture.backbone.last_channels=24",
    "model.architecture.head.in_channels=24",
    f"env_cfg.dist_cfg.timeout={TIMEOUT}",
]
SEARCH = [
    *_NETWORK,
    "search_cfg.score_on_trained_images=True",
    "search_cfg.calibrate_sample_num=64",
    "search_cfg.target_macs=[60%]",
]


def training(epochs: int) -> list[str]:
    """Of 25 steps an epoch with two processes, with a checkpoint of each."""
    return [
        *_NETWORK,
        "train_dataloader.dataset.dataset.indices=400",
        "train_dataloader.batch_size=8",
        f"train_cfg.max_epochs={epochs}",
        f"train_cfg.val_interval={epochs}",
        f"param_scheduler.end={epochs}",
        "default_hooks.checkpoint.interval=1",
    ]
