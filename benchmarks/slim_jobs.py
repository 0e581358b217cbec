"""A row of ``slim.py``'s table is a job; what it measures is one JSON file of one line, which is there whole or not.

What was collected from a work dir is in the repository, a file for each network, so that its tables can be made anew.

Letters: N images.
"""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._jobs import measured
from benchmarks.slim_networks import CASES, Case

RESULTS = Path(__file__).with_name("slim_results")  # the figures that are in the repository
SEEDS = (0, 1, 2)
OURS = ("ours",)
CONTROLS = ("none", "first", "l1_cut")  # no slimming; the first channels; the largest weights, without repair
PEERS = ("tp_magnitude", "tp_taylor", "tp_bn", "fastnas")
TUNED = ("none_tuned", "ours_tuned", "tp_magnitude_tuned", "tp_taylor_tuned", "tp_bn_tuned", "fastnas_tuned")
COSTS = ("forward", "slim")  # seconds and peak memory of a forward pass and of slim
TUNED_CASES = {"resnet56": 50}
COSTS_CASES = {"resnet56": 50, "lite0": 80}
TUNING = "5min"  # what both sides get


@dataclass(frozen=True)
class Job:
    """One measurement: a method on a network at a budget, with the calibration images of a seed."""

    case: str
    share: int
    method: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.case}-{self.share}-{self.method}-{self.seed}"

    @classmethod
    def of(cls, name: str) -> Job:
        case, share, method, seed = name.split("-")
        return cls(case, int(share), method, int(seed))

    @property
    def peer(self) -> bool:
        """Whether it needs the packages of the peers."""
        return self.method.removesuffix("_tuned") in PEERS


def jobs() -> Iterator[Job]:
    """All of the table, the quick ones first."""
    for name, case in CASES.items():
        if case.trained is not None:
            yield Job(name, 100, "train", 0)
        for seed in SEEDS:
            yield Job(name, 100, "none", seed)
    for method in (*OURS, *CONTROLS[1:], *PEERS):
        for name, case in CASES.items():
            for share in case.shares:
                yield from (Job(name, share, method, seed) for seed in SEEDS)
    for method in COSTS:
        yield from (Job(name, share, method, 0) for name, share in COSTS_CASES.items())
    for seed in SEEDS:
        for method in TUNED:
            yield from (Job(name, share, method, seed) for name, share in TUNED_CASES.items())


# what a job measures --------------------------------------------------------------------------------------------


@torch.no_grad()
def first_classes(network: nn.Module, images: Tensor, batch: int = 25) -> np.ndarray:
    """The class of the largest logit of each image, (N,)."""
    network.eval()
    return np.concatenate([network(part).argmax(1).numpy() for part in images.split(batch)])


def bits(values: np.ndarray) -> str:
    """Truths (N,) as text."""
    return base64.b85encode(np.packbits(values.astype(bool)).tobytes()).decode()


def truths(text: str, number: int) -> np.ndarray:
    """The truths (N,) that :func:`bits` wrote."""
    return np.unpackbits(np.frombuffer(base64.b85decode(text), np.uint8))[:number].astype(bool)


def costs(network: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Macs and params of a plain network by the cost model, whoever made it."""
    from mmrazor_lite.models.mutators import OneShotChannelMutator

    mutator = OneShotChannelMutator(divisor=1)
    mutator.prepare(copy.deepcopy(network).eval(), input_shape, any_width=True)
    full = mutator.cost_model.max()
    return {name: int(full[name]) for name in ("macs", "params")}


class Judge:
    """Says of each test image whether a network names its class, and whether it names the class the original does."""

    def __init__(self, case: Case, job: Job, work: Path, original: nn.Module) -> None:
        self.images, self.numbers = case.data.test(work, job.seed)
        self.input_shape = case.input_shape
        self.original = self._known(work / "images" / f"{job.name.split('-')[0]}_classes.json", original)
        self.full = costs(original, case.input_shape)
        self.stages: list[dict[str, Any]] = []
        self.start = time.process_time()

    def _known(self, path: Path, original: nn.Module) -> np.ndarray:
        """The first classes of the original, found once for every image."""
        from mmrazor_lite.fileio import write_text_atomic

        known = {int(n): c for n, c in json.loads(path.read_text()).items()} if path.exists() else {}
        new = np.array([number not in known for number in self.numbers])
        if new.any():
            found = first_classes(original, self.images.images[torch.from_numpy(new)])
            known |= {int(n): int(c) for n, c in zip(self.numbers[new], found, strict=True)}
            write_text_atomic(path, json.dumps(known))
        return np.array([known[int(number)] for number in self.numbers])

    def stage(self, name: str, network: nn.Module) -> None:
        """Add what a network reaches; the seconds are of the process, without the judging."""
        seconds = time.process_time() - self.start
        found = first_classes(network, self.images.images)
        right, same = found == self.images.labels.numpy(), found == self.original
        told = {"name": name, "cpu_s": round(seconds, 1), "accuracy": round(100 * float(right.mean()), 3)}
        told |= {"agreement": round(100 * float(same.mean()), 3), "right": bits(right), "same": bits(same)}
        self.stages.append(told)
        print(f"  {name}: {told['accuracy']:.2f} %, agrees on {told['agreement']:.2f} %, {seconds:.0f} s", flush=True)
        self.start = time.process_time() - seconds

    def again(self, name: str, other: str) -> None:
        """Add a stage whose network is that of another one."""
        self.stages.append({**next(stage for stage in self.stages if stage["name"] == other), "name": name})

    def record(self, network: nn.Module) -> dict[str, Any]:
        """What is written of a job whose last network is this one."""
        right = self.original == self.images.labels.numpy()
        return {
            "images": len(right),
            "numbers": None if np.array_equal(self.numbers, np.arange(len(right))) else self.numbers.tolist(),
            "full": {**self.full, "accuracy": round(100 * float(right.mean()), 3), "right": bits(right)},
            "left": costs(network, self.input_shape),
            "stages": self.stages,
        }


def do(name: str, work: Path, measure: Callable[[Job, Path], dict[str, Any]]) -> None:
    """Measure a job and write its file."""
    job = Job.of(name)
    torch.manual_seed(job.seed)
    measured(job.name, result_file(work, job), lambda: measure(job, work))


def result_file(work: Path, job: Job) -> Path:
    return work / "jobs" / f"{job.name}.json"


def read(work: Path, job: Job) -> dict[str, Any] | None:
    """The record of a job, of the work dir or else of the repository; None where there is none."""
    path = result_file(work, job)
    return json.loads(path.read_text()) if path.exists() else _collected(job.case).get(job.name)


def done(work: Path, job: Job) -> bool:
    """Whether a job need not run; a network that was trained has to be in the work dir."""
    return result_file(work, job).exists() if job.method == "train" else read(work, job) is not None


def _collected(case: str) -> dict[str, dict[str, Any]]:
    path = RESULTS / f"{case}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {(record := json.loads(line))["job"]: record for line in lines}


def collect(work: Path) -> list[Path]:
    """Write the records of a work dir into the repository, beside those of jobs that it has not; the files written."""
    from mmrazor_lite.fileio import write_text_atomic

    written = []
    for case in CASES:
        before = _collected(case)
        known = {job.name: record for job in jobs() if job.case == case and (record := read(work, job)) is not None}
        if known != before:
            text = "".join(json.dumps(record) + "\n" for record in known.values())
            RESULTS.mkdir(exist_ok=True)
            write_text_atomic(RESULTS / f"{case}.jsonl", text)
            written.append(RESULTS / f"{case}.jsonl")
    return written
