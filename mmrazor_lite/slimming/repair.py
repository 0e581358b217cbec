"""What is done for a network that was cut: weights refitted, statistics measured anew, whichever is better."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from mmrazor_lite.checkpoints import load_weights, read_checkpoint, save_checkpoint
from mmrazor_lite.jsonio import is_number
from mmrazor_lite.models.calibration import activated, batch_norms, recalibrate
from mmrazor_lite.models.importance import Batches

from .distance import SOFT
from .judging import Judge
from .kept_steps import Steps, lines
from .prepared import Prepared, by_reason
from .refit import UNTOUCHED, RefitOptions, RefitReport, kept_channels, refit
from .report import Quality, Stage
from .shared_original import Original

CUT, REFIT, RECALIBRATED, BOTH = "cut", "refit", "recalibrated", "refit and recalibrated"
WEIGHTS = "slim_weights.pth"


@dataclass(frozen=True, eq=False)
class Repaired:
    """A small network, and what was tried for it.

    Attributes:
        network: The best one, in eval mode.
        name: How it was made.
        tried: Each way, the quality of its network on the judge's images, and seconds that it took.
        notes: What is to be said, a line each.
    """

    network: nn.Module
    name: str
    tried: Sequence[Stage]
    notes: Sequence[str] = ()

    @property
    def quality(self) -> Quality:
        return next(stage.held_out for stage in self.tried if stage.name == self.name)

    @property
    def way(self) -> list[Stage]:
        """The steps that led to the best one."""
        steps = {CUT: (CUT,), REFIT: (CUT, REFIT), RECALIBRATED: (CUT, RECALIBRATED), BOTH: (CUT, REFIT, BOTH)}
        return [stage for stage in self.tried if stage.name in steps[self.name]]


def repair(prepared: Prepared, subnet: Mapping[str, int], seen: Batches, judge: Judge) -> Repaired:
    """Cut a subnet out of a prepared network, whose channels are sorted, and repair it.

    Ways are the cut alone, a refit, statistics of batch norms measured anew on the same images, and both. That with
    the smallest softened distance from the original is taken; of equal ones the first. As it is, the distance is made
    by the few images that are near a change of class.
    """
    cut = prepared.mutator.export(subnet)
    networks, tried = {}, []

    def candidate(name: str, network: nn.Module, began: float) -> None:
        networks[name] = network.eval()
        tried.append(Stage(name, judge(network), time.perf_counter() - began))

    candidate(CUT, cut, time.perf_counter())
    began = time.perf_counter()
    fitted, refitted = refit_of(prepared, subnet, seen)
    candidate(REFIT, fitted, began)
    if batch_norms(cut):
        for name, network in ((BOTH, fitted), (RECALIBRATED, cut)):
            began = time.perf_counter()
            candidate(name, recalibrated(network, seen), began)
    near = {stage.name: stage.held_out.softened for stage in tried}
    best = min(tried, key=lambda stage: near[stage.name])
    others = ", ".join(f"{name} {value:.3g}" for name, value in near.items() if name != best.name)
    told = f"distance {near[best.name]:.3g} at temperature {SOFT:g}, of {others}"
    notes = [f"nearest to the original is {best.name}: {told}"]
    skipped = by_reason((layer, why) for layer, why in refitted.skipped.items() if why != UNTOUCHED)
    notes += [f"{names} {'are' if several else 'is'} not refitted: {why}" for names, several, why in skipped]
    return Repaired(networks[best.name], best.name, tried, (*notes, *refitted.notes))


def repaired_once(prepared: Prepared, subnet: Mapping[str, int], seen: Batches, judge: Judge, steps: Steps) -> Repaired:
    """As :func:`repair`, a step that is kept: its weights are in a file beside the steps."""
    path = None if steps.folder is None else steps.folder / WEIGHTS
    if "repair" in steps and path is not None and path.exists():
        name, tried, notes = steps("repair", dict, _read)
        network = prepared.mutator.export(subnet).eval()
        load_weights(network, read_checkpoint(path), path)
        return Repaired(network, name, tried, notes)
    found = repair(prepared, subnet, seen, judge)
    if path is not None:
        save_checkpoint({"state_dict": found.network.state_dict()}, path)
    tried = [{"name": s.name, "held_out": asdict(s.held_out), "seconds": s.seconds} for s in found.tried]
    steps("repair", lambda: {"name": found.name, "tried": tried, "notes": list(found.notes)})
    return found


def _read(kept: Mapping[str, Any]) -> tuple[str, list[Stage], tuple[str, ...]]:
    """What was tried, from plain data; any error where it is something else."""
    tried = [_stage(part) for part in kept["tried"]]
    names = [stage.name for stage in tried]
    if kept["name"] not in names or names not in ([CUT, REFIT], [CUT, REFIT, BOTH, RECALIBRATED]):
        raise ValueError("expected the ways of a repair")
    return kept["name"], tried, lines(kept["notes"])


def _stage(part: Mapping[str, Any]) -> Stage:
    """One of them: shares may be unknown, all other numbers are there."""
    quality = Quality(**part["held_out"])
    known = [part["seconds"], quality.distance, quality.softened, quality.images]
    known += [share for share in (quality.accuracy, quality.agreement) if share is not None]
    if not all(map(is_number, known)):
        raise ValueError("expected numbers")
    return Stage(part["name"], quality, part["seconds"])


def refit_of(
    prepared: Prepared, subnet: Mapping[str, int], seen: Batches, original: Original | None = None
) -> tuple[nn.Module, RefitReport]:
    """A subnet as a plain network whose weights are refitted; ``original`` is of :func:`original_of`."""
    network = prepared.mutator.export(subnet).eval()
    with activated(prepared.mutator, prepared.mutator.search_space.max()):
        kept = kept_channels(prepared.mutator, subnet)
        report = refit(network, prepared.network, kept, seen, original=original)
    return network, report


def original_of(prepared: Prepared, seen: Batches, rows: int) -> Original:
    """What several subnets are refitted to with the same images, and so many places for each input of a layer."""
    with activated(prepared.mutator, prepared.mutator.search_space.max()):
        return Original(prepared.network, seen, rows, RefitOptions.held_bytes)


def recalibrated(network: nn.Module, seen: Batches) -> nn.Module:
    """A copy whose batch norms have the statistics of these images."""
    network = copy.deepcopy(network)
    recalibrate(network, seen)
    return network
