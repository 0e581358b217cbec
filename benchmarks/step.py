"""A training step as a user gets it, beside MMRazor 1.0.0's, in one interleaved run on one torch.

    python benchmarks/step.py --mmrazor FOLDER          # a checkout of MMRazor 1.0.0; about 6 minutes on 2 cores
    python benchmarks/step.py --only spos --rounds 8    # ours alone

AutoSlim trains MobileNetV2-1.5x, SPOS ShuffleNetV2, both by the configs of ImageNet, at batch 8 and 224 px. In every
round each contestant takes one step, in turn, in a process of its own: ``mmrazor``; ``off``, ours with
``channels_last=False``; ``default``, what ours takes without a word; ``amp``, with ``--amp``. MMRazor's ``--amp`` is
for GPUs alone, where it is ``mmrazor_amp``. Of SPOS all train the same path in a round. What counts is the time of
MMRazor divided by ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import numpy as np
import torch

from benchmarks._timing import machine

OURS = {
    "autoslim": "configs/pruning/autoslim/autoslim_mbv2_supernet_8xb256_in1k.py",
    "spos": "configs/nas/spos/spos_supernet_shufflenetv2_8xb128_in1k.py",
}
GOALS = {"autoslim": {"default": 1.7, "amp": 2.2}, "spos": {"default": 1.25, "amp": 1.6}}
WARMUP = 3
OPERATORS = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
PLACES = 20  # of operators in SPOS's network


def path(number: int) -> list[str]:
    """The operators of the path that everybody trains in a round of SPOS."""
    return [OPERATORS[i] for i in np.random.default_rng(number).integers(len(OPERATORS), size=PLACES)]


def batch(size: int, resolution: int) -> tuple[torch.Tensor, list[Any]]:
    """Random images and their labels."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(size, 3, resolution, resolution, generator=generator).to(device)
    labels = torch.randint(1000, (size,), generator=generator)
    return images, [DataSample().set_gt_label(label).to(device) for label in labels]


def ours(name: str, kind: str, images: torch.Tensor, samples: list[Any]) -> tuple[Callable[[int], None], str]:
    """Our step, and what ``channels_last='auto'`` came to."""
    from benchmarks.autoslim import _Pass, build
    from mmrazor_lite.engine.layout_trial import tried
    from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper, SubnetOptimWrapper

    algorithm = build(False, OURS[name])
    algorithm.data_preprocessor = _Pass()
    wrapper = (SubnetAmpOptimWrapper if kind == "amp" else SubnetOptimWrapper)(
        torch.optim.SGD(algorithm.parameters(), 1e-3, momentum=0.9, nesterov=name == "autoslim")
    )
    data, said = {"inputs": images, "data_samples": samples}, "channels_last off"
    if kind != "off":
        found = tried(algorithm, data, wrapper)
        algorithm.use_channels_last(found.channels_last)
        said = f"channels_last {'on' if found.channels_last else 'off'}: {found}"
        said += f"; {wrapper.precision}{', emulated' * wrapper.is_slow}" if kind == "amp" else ""

    def step(number: int) -> None:
        if name == "spos":
            from mmrazor_lite.models.algorithms import Pass
            from mmrazor_lite.subnet import Subnet

            chosen = Subnet(dict(zip(algorithm.search_space, path(number), strict=True)))
            algorithm.passes = lambda _: [Pass(chosen)]
        algorithm.train_step(data, wrapper)

    return step, said


def theirs(name: str, kind: str, folder: str, images: torch.Tensor, samples: list[Any]) -> tuple[Callable, str]:
    """MMRazor's step."""
    from benchmarks import step_mmrazor

    algorithm = step_mmrazor.build(folder, name).to(images.device)
    train = step_mmrazor.step_of(algorithm, amp=kind == "mmrazor_amp", nesterov=name == "autoslim")

    def step(number: int) -> None:
        if name == "spos":
            groups = list(algorithm.mutator.search_groups)
            algorithm.mutator.sample_choices = lambda: dict(zip(groups, path(number), strict=True))
        train(images, samples)

    return step, "MMRazor 1.0.0"


def serve(name: str, kind: str, folder: str, size: int, resolution: int) -> None:
    """Take one step for each line that comes in, and answer with its seconds and those of the processor."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # MMRazor prints
    images, samples = batch(size, resolution)
    if kind.startswith("mmrazor"):
        step, said = theirs(name, kind, folder, images, samples)
    else:
        step, said = ours(name, kind, images, samples)
    print(json.dumps({"said": said}), file=answers, flush=True)
    for line in sys.stdin:
        begun, cpu = time.perf_counter(), time.process_time()
        step(int(line))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
        print(json.dumps(seconds), file=answers, flush=True)


class Contestant:
    """A process that takes steps when it is asked to."""

    def __init__(self, name: str, kind: str, args: argparse.Namespace) -> None:
        words = ["--serve", name, kind, "--batch", str(args.batch), "--resolution", str(args.resolution)]
        command = [sys.executable, __file__, *words, *(["--mmrazor", args.mmrazor] if args.mmrazor else [])]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.said = self._answer()["said"]

    def step(self, number: int) -> dict[str, float]:
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.process.args)} has ended; run it to see why")
        return json.loads(line)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measured(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The rounds of one algorithm; prints its table."""
    peers = ["mmrazor", *["mmrazor_amp"] * torch.cuda.is_available()] if args.mmrazor else []
    kinds = [*peers, *args.kinds]
    contestants = {kind: Contestant(name, kind, args) for kind in kinds}  # one after the other: each tries for itself
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(WARMUP + args.rounds):
        for kind in kinds if number % 2 else reversed(kinds):
            row = contestants[kind].step(number)
            if number >= WARMUP:
                rows[kind].append(row)
    figures = {}
    for kind in kinds:
        contestants[kind].end()
        seconds, cpu = ([row[key] for row in rows[kind]] for key in ("seconds", "cpu"))
        figures[kind] = {"seconds": statistics.median(seconds), "cpu": statistics.median(cpu), "all": seconds}
        spread = statistics.quantiles(seconds, n=4)
        peer = peers[-1] if kind == "amp" and peers else "mmrazor"
        beside = ""
        if peers and kind not in peers:
            figures[kind]["ratio"] = statistics.median(
                theirs["seconds"] / mine["seconds"] for theirs, mine in zip(rows[peer], rows[kind], strict=True)
            )
            goal = GOALS[name].get(kind)
            beside = f"  {peer} / ours {figures[kind]['ratio']:.2f}" + (f" (goal {goal})" if goal else "")
        print(
            f"{name:<9}{kind:<12}{figures[kind]['seconds']:8.3f} s  (middle half {spread[0]:.3f} to {spread[2]:.3f}; "
            f"processor {figures[kind]['cpu']:.3f} s){beside}  [{contestants[kind].said}]",
            flush=True,
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mmrazor", metavar="FOLDER", help="checkout of MMRazor 1.0.0 (branch main)")
    parser.add_argument("--only", choices=list(OURS), help="one algorithm; both by default")
    parser.add_argument("--kinds", nargs="+", choices=["off", "default", "amp"], default=["off", "default", "amp"])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--serve", nargs=2, metavar=("ALGORITHM", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(*args.serve, args.mmrazor, args.batch, args.resolution)
        return
    print(f"{machine()}; batch {args.batch}, {args.resolution} px, {args.rounds} rounds", flush=True)
    names = [args.only] if args.only else list(OURS)
    figures = {"machine": machine(), **{name: measured(name, args) for name in names}}
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
