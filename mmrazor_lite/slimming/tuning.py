"""The training of a tuning: the project's runner and step, a time limit, and the decision on images held out."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmrazor_lite.datasets.shifts import shifted
from mmrazor_lite.engine import RazorRunner, SeededDataset, SeededSampler, TimeLimitHook
from mmrazor_lite.engine.hooks.checkpoint import LAST
from mmrazor_lite.errors import DivergedError, UserError
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.jsonio import BadJSON, parse, read_bytes
from mmrazor_lite.models.algorithms import Distilled
from mmrazor_lite.models.classifiers import WithLoss
from mmrazor_lite.models.distillers import OutputDistance
from mmrazor_lite.randomness import seeded

from .batch_targets import moved
from .class_numbers import cross_entropy_where
from .function_names import named
from .judging import Judge
from .report import Quality
from .tune import Limit, Tuned
from .tuning_images import TuningImages

TITLE = "tuning"
STATE = "tuning.json"
EVERY = 30.0  # seconds between checkpoints
MARGIN = 1.0  # seconds that the end takes beside judging
RATE, DECAY, LARGEST_GRADIENT = 1e-3, 0.01, 5.0
MOVE = 8  # images are moved by up to this part of their size
UNLIMITED = 1 << 40  # steps


class MovedImages(BaseDataPreprocessor):
    """Mirrors images of a training batch and moves them, by draws of the step's own random state."""

    def forward(self, data: Any, training: bool = False) -> Any:
        """Return the batch on the device; ``inputs`` (B, C, H, W) are changed while training."""
        data = super().forward(data, training)
        images = data["inputs"]
        if not training or images.dim() != 4:
            return data
        top, left = (_drawn(len(images), size // MOVE) for size in images.shape[2:])
        return {**data, "inputs": shifted(images, top, left, torch.randint(2, (len(images),)), "reflect")}


def _drawn(count: int, most: int) -> Tensor:
    return torch.randint(-most, most + 1, (count,))


class Tuning:
    """One tuning: both networks, the images, and the loss.

    Args:
        small, full: As for :func:`.tune`; what trains are copies.
        images: What is trained on and what decides.
        loss: Called with (outputs, targets); None for what fits the targets.
        augment: Mirror and move images.
        seed: Of everything random.
        began: When the time began, by the monotonic clock.
        values: Which outputs hold values, as :func:`.tune` takes it.
    """

    def __init__(
        self,
        small: nn.Module,
        full: nn.Module,
        images: TuningImages,
        loss: Callable | None,
        augment: bool,
        seed: int,
        began: float,
        values: Any = None,
    ) -> None:
        self.small, self.images, self.augment, self.seed, self._began = small, images, augment, seed, began
        device = next(small.parameters()).device
        self.full = full
        if augment and images.held_out[0][0].dim() != 4:
            shape = tuple(images.held_out[0][0].shape[1:])
            raise UserError(f"augment: images of {shape} cannot be mirrored and moved, (C, H, W) can; leave it out")
        batches = [(found.to(device), moved(targets, device)) for found, targets in images.held_out]
        self.judge = Judge(self.full, batches, values=values)
        self.notes = list(images.notes)
        self.loss = self._loss(loss, batches)
        start = time.monotonic()
        self.before = self.judge(small)
        self._judging = time.monotonic() - start

    def run(self, limit: Limit, work_dir: str | Path | None, resume: bool, show: bool) -> Tuned:
        """Train within the limit, and take what is better."""
        with _folder(work_dir) as folder, seeded(self.seed):
            hook = self._hook(limit, show)
            if hook is None:
                return self._judged(None, 0)
            self._settle(folder, resume)
            runner = self._runner(hook, folder, resume, work_dir is not None, show)
            trained = self._trained(runner, hook)
            if hook.steps is not None and runner.iter > hook.steps:
                self.notes.append(
                    f"tune: the run before had trained for {runner.iter} steps, {limit} are {hook.steps}: "
                    "leave out resume to train for these alone"
                )
            return self._judged(trained, runner.iter)

    def _loss(self, loss: Callable | None, batches: list) -> Callable | None:
        """What the targets are trained with; none where nothing says it."""
        if batches[0][1] is None:
            if loss is not None:
                self.notes.append("tune: the data has no targets, the loss is not used")
            return None
        if loss is not None:
            return loss
        found = cross_entropy_where(batches, self.judge.reference[0], self.judge.values)
        if found is None:
            self.notes.append("tune: there is no loss for these targets, they are not used; give loss=")
        return found

    def _hook(self, limit: Limit, show: bool) -> TimeLimitHook | None:
        """The limit as steps, or as the seconds that are left for them; None where there are none."""
        title = TITLE if show else ""
        if limit.seconds is None:
            steps = round(limit.epochs * len(self.images.dataset) / self.images.batch_size)
            return TimeLimitHook(steps=max(1, steps), title=title)
        gone = time.monotonic() - self._began
        last = limit.seconds - self._judging - MARGIN
        if last <= gone:
            self.notes.append(
                f"tune: {limit} are over before the first step: reading and judging the images took {gone:.0f} s, and "
                f"judging the result would take {self._judging:.0f} s; give more time"
            )
            return None
        return TimeLimitHook(seconds=last, title=title, began=self._began)

    def _runner(self, hook: TimeLimitHook, folder: Path, resume: bool, keep: bool, show: bool) -> RazorRunner:
        net = copy.deepcopy(self.small)
        if not any(parameter.requires_grad for parameter in net.parameters()):
            net.requires_grad_(True)
        algorithm = Distilled(
            WithLoss(net, self.loss),
            teacher=self.full,
            label_weight=0.0 if self.loss is None else 1.0,
            distiller=OutputDistance(values=sorted(self.judge.values)),
            data_preprocessor=MovedImages() if self.augment else None,
            input_shape=tuple(self.images.held_out[0][0].shape[1:]),
        )
        dataset = SeededDataset(self.images.dataset, self.seed, where="data")
        loader = DataLoader(
            dataset,
            batch_size=self.images.batch_size,
            sampler=SeededSampler(dataset, seed=self.seed, infinite=True),
            collate_fn=self.images.collate,
            **self.images.options,
        )
        settings = {
            "train_cfg": {"by_epoch": False, "max_iters": UNLIMITED, "val_interval": UNLIMITED},
            "optim_wrapper": optimizer(),
            "randomness": {"seed": self.seed},
        }
        runner = RazorRunner(
            model=algorithm,
            work_dir=str(folder),
            train_dataloader=loader,
            **copy.deepcopy(settings),
            cfg=settings,
            default_hooks={
                **dict.fromkeys(("runtime_info", "timer", "logger", "param_scheduler", "sampler_seed")),
                "checkpoint": self._checkpoints(keep),
            },
            custom_hooks=[hook],
            resume=resume,
            experiment_name=f"tune_{id(self)}",
            default_scope="mmengine",
            log_level="WARNING",  # what a run says of itself when it is built
        )
        _calm(runner.logger, show)
        return runner

    def _checkpoints(self, keep: bool) -> dict[str, Any]:
        """A checkpoint every half a minute or so."""
        if not keep:
            return {"type": "CheckpointHook", "by_epoch": False, "interval": -1, "save_last": False}
        seconds = 4 * self._judging / self.judge.images * self.images.batch_size  # a step, the teacher's run included
        interval = max(1, round(EVERY / max(seconds, 1e-6)))
        return {"type": "CheckpointHook", "by_epoch": False, "interval": interval, "max_keep_ckpts": 1}

    def _trained(self, runner: RazorRunner, hook: TimeLimitHook) -> nn.Module | None:
        """The network after the training; None where its weights or its loss became infinite."""
        try:
            runner.train()
        except DivergedError as error:
            self.notes.append(f"tune: {error}")
            return None
        finally:
            hook.close()
        return runner.algorithm.architecture.net

    def _settle(self, folder: Path, resume: bool) -> None:
        """Write down what this tuning is of, or see that it is that of the run that it goes on from."""
        path, mine = folder / STATE, self._identity()
        if resume and path.is_file():
            try:
                theirs = parse(read_bytes(path, what="the state of a tuning"))
            except BadJSON as error:
                raise UserError(f"{path} is damaged ({error}): leave out resume, or give another work_dir") from None
            other = [key for key, value in mine.items() if not isinstance(theirs, dict) or theirs.get(key) != value]
            if other:
                raise UserError(f"{path}: that tuning had other {other[0]}: leave out resume, or give another work_dir")
            return
        for left in (folder / LAST, *folder.glob("iter_*.pth")):  # of a tuning before, that is not gone on with
            left.unlink(missing_ok=True)
        write_text_atomic(path, json.dumps(mine, indent=1) + "\n")

    def _identity(self) -> dict[str, Any]:
        return {
            "weights": _digest(self.small),
            "weights of the original": _digest(self.full),
            "images": len(self.images.dataset),
            "batch_size": self.images.batch_size,
            "augment": self.augment,
            "seed": self.seed,
            "loss": None if self.loss is None else named(self.loss),
            "values": sorted(self.judge.values),
        }

    def _judged(self, trained: nn.Module | None, steps: int) -> Tuned:
        model, after, is_taken = copy.deepcopy(self.small), self.before, False
        if trained is not None and steps:
            model.load_state_dict(trained.state_dict())
            after = self.judge(model)
            is_taken = _rank(after) > _rank(self.before)
            if not is_taken:
                model = copy.deepcopy(self.small)
                self.notes.append(
                    f"tune: the weights from before stay, tuned ones are no better on {after.images} images held out: "
                    f"{_told(self.before)} before, {_told(after)} tuned"
                )
        seconds, images = time.monotonic() - self._began, steps * self.images.batch_size
        is_held_out = self.images.is_held_out or not steps
        return Tuned(model, is_taken, self.before, after, steps, images, seconds, tuple(self.notes), is_held_out)


def _rank(quality: Quality) -> tuple[float, float]:
    """The higher the better: where there are labels they decide, and among equals the distance to the original."""
    return (0.0 if quality.accuracy is None else quality.accuracy, -quality.distance)


def _told(quality: Quality) -> str:
    accuracy = "" if quality.accuracy is None else f"accuracy {quality.accuracy:.2f}, "
    return f"{accuracy}distance {quality.distance:.4g}"


def optimizer() -> dict[str, Any]:
    """The optimizer for a few minutes of training that start from weights that are nearly right.

    AdamW (arXiv:1711.05101): of one ResNet-56, trained with one seed, it won back more than SGD at the rates tried; of
    a small transformer SGD did, at a rate that other networks would not stand.
    """
    return {
        "optimizer": {"type": "AdamW", "lr": RATE, "weight_decay": DECAY},
        "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0},
        "clip_grad": {"max_norm": LARGEST_GRADIENT},
    }


def _digest(network: nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


@contextmanager
def _folder(work_dir: str | Path | None) -> Iterator[Path]:
    """The folder of a tuning; one that is gone afterwards, where none is given."""
    if work_dir is not None:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        yield Path(work_dir)
        return
    with tempfile.TemporaryDirectory(prefix="mmrazor_lite_tune_") as folder:
        yield Path(folder)


def _calm(logger: logging.Logger, show: bool) -> None:
    """Leave the terminal to the progress and to warnings, and the standard output to others; the log file has all."""
    logger.setLevel(logging.INFO)
    for handler in logger.handlers:
        handler.setLevel(logging.INFO)
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setStream(sys.stderr)
            handler.addFilter(partial(_is_told, show))


def _is_told(show: bool, record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or (show and str(record.msg).startswith(TITLE))
