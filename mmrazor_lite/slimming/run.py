"""Slim a trained network: from images and a budget to a plain module, and what to say of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError, check_flag, short
from mmrazor_lite.estimators.steady_rounds import slow_note
from mmrazor_lite.folder_lock import hold, released
from mmrazor_lite.models.importance import Importance
from mmrazor_lite.models.mutators import OneShotChannelMutator

from .asked import check_backend, check_data, check_kinds, check_network, check_values, folder, texts
from .budgets import Budget, Floor, read_goal
from .choosing import Setting, check_fast, check_goal, choose
from .class_numbers import class_numbers, why_unused
from .function_names import named
from .group_rows import group_rows
from .images import Images, read_images
from .judging import Judge
from .kept_steps import Steps, digest_of
from .output_kinds import check_value_names, few_classes, only_class, taken_as
from .prepared import prepare
from .ranked import ranked
from .repair import CUT, repaired_once
from .report import Report, Stage
from .slimmed import Slimmed
from .speed import compare_latency
from .timed import bench_of, check_delivered, table_measured, table_of_file
from .tune import tune as run_tuning

FEW_TO_JUDGE = 50  # images, of which one is two points


@released()
def slim(
    model: nn.Module,
    data: Any,
    budget: Any = None,
    *,
    min_accuracy: float | str | None = None,
    max_drop: float | None = None,
    importance: str | Importance = "reconstruction",
    loss: Callable[[Any, Any], Tensor] | None = None,
    images: int = 500,
    divisor: int | str = "auto",
    keep: Sequence[str] = (),
    limits: Mapping[str, int | float] | None = None,
    tune: Any = None,
    work_dir: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    input_shape: Sequence[int] | None = None,
    opaque: Sequence[str] = (),
    groups: Sequence[Mapping] = (),
    name: str | None = None,
    latency: bool = True,
    table: str | Path | None = None,
    backend: str | None = None,
    notes: Sequence[str] = (),
    architecture: Mapping[str, Any] | None = None,
    values: bool | Sequence[int | str] | None = None,
    show: bool = True,
) -> Slimmed:
    """Make a trained network smaller, in minutes.

    Units of its width groups are ranked, the widths chosen under the budget, the best units kept, and the weights that
    are left refitted in closed form, all by a few hundred images. No weight is trained unless ``tune`` says so.

    Args:
        model: Any module that ``torch.export`` traces; it is not changed.
        data: Images, normalised as the network takes them, with targets or without; see :func:`read_images`.
        budget: ``'50%'`` of the macs, ``'0.3G'``, ``'12ms'``, ``dict(params='2M', latency='70%')``; what it costs is
            exact, and latency is measured. See :func:`read_goal`.
        min_accuracy, max_drop: In the place of a budget: the smallest network that keeps so much accuracy, in percent,
            or loses so many points at most, on images held out; without labels, of agreement with the original.
        importance: Name of a measure, or a function of (network, images, loss) that gives scores by group.
        loss: Of (outputs as the network returns them, targets), for measures that take one and for ``tune``; cross
            entropy where targets are class numbers.
        images: How many are worked with; as many further ones, where there are any, are held out.
        divisor: Widths are multiples of it; ``'auto'`` is 1 to 8, by the width of the group, or what a
            latency table says that pays, up to 32.
        keep: Patterns of layers, or of parts of the network, that keep their width.
        limits: Pattern of layers -> the least that stays, as a share (0.5) or a number of channels.
        tune: Fine-tuning by distillation, ``'5min'`` or a number of epochs; needs mmengine.
        work_dir: Where steps are kept, so that ``resume=True`` goes on behind the last one.
        resume: Go on with what is in ``work_dir``.
        seed: Of everything that is drawn.
        input_shape: (C, H, W) of the images; by default that of the first one.
        opaque: Patterns of modules that the trace does not look into; what they touch keeps its width.
        groups: Width groups by hand, see :class:`OneShotChannelMutator`.
        name: What the report calls the network; by default its class.
        latency: Whether both networks are timed at the end.
        table: File of a latency table of this network and machine, for a budget in milliseconds; by default one is
            measured first, and kept in ``work_dir``.
        backend: What runs both networks where they are timed, for a budget in milliseconds and at the end: ``'torch'``,
            ``'torch.compile'``, ``'onnxruntime'`` or ``'openvino'``; by default torch, or what ``table`` is of.
        notes: More lines for the report.
        architecture: Config that builds the network, for the files of the result, see :class:`Slimmed`.
        values: Which outputs (N, K) hold values, such as coordinates, and no class scores: True for all, or their
            numbers or keys, ``[0]``, ``['boxes']``. By default those whose targets are numbers of their shape.
        show: Say on stderr which step begins.

    Raises:
        UserError: In one line, what cannot be done, and why.
    """
    check_network(model)
    check_data(data, again=tune is not None)
    check_kinds(limits=limits, groups=groups, architecture=architecture, loss=loss, name=name)
    keep, opaque, notes = texts("keep", keep), texts("opaque", opaque), texts("notes", notes)
    work_dir = folder("work_dir", work_dir, resume)
    check_flag("latency", latency)
    check_flag("show", show)
    check_value_names(values)
    limit = check_values(budget, min_accuracy, max_drop, importance, images, divisor, tune, seed)
    check_backend(backend)
    clock = _Clock(show)
    if work_dir is not None:
        hold(work_dir, "slim")
    found = read_images(data, model, images, input_shape, seed)
    with found.explaining():
        prepared = prepare(model, found.shape, keep, limits, opaque, groups)
    mutator = prepared.mutator
    costs = mutator.cost_model.of(mutator.search_space.max())
    goal = read_goal(budget, min_accuracy, max_drop, costs)
    check_goal(prepared, goal, divisor)
    is_timed = isinstance(goal, Budget) and goal.latency is not None
    if table is not None and not is_timed:
        raise UserError(f"table={short(str(table))} is for a budget in milliseconds, such as '12ms'; leave it out")
    if backend is not None and not (latency or is_timed):
        raise UserError(
            f"backend={backend!r} is for a budget in milliseconds and for timing both networks, and here is neither: "
            "leave out latency=False, or backend"
        )
    by_time = None if table is None else table_of_file(prepared, table, backend)
    measure = importance if isinstance(importance, str) else named(importance)
    options = {"goal": goal.asked, "importance": measure, "divisor": divisor, "least": dict(prepared.least)}
    options |= {"loss": None if loss is None else named(loss), "table": by_time and by_time.table.digest}
    options |= {} if backend is None else {"backend": backend}
    options |= {"values": values if values is None or isinstance(values, bool) else list(values)}
    steps = _steps(work_dir, resume, model, found, mutator, options)
    judge = Judge(prepared.network, found.held_out, strict=loss is None, values=values)
    unused = judge.why_unused or why_unused(judge.reference[0], found.seen, strict=loss is None, values=judge.values)
    if unused and isinstance(goal, Floor):
        raise UserError(f"{goal.asked}: the data has targets, and {unused}; give class numbers (N,), or images alone")
    told = _of_outputs(judge, found, goal, unused, values is not None)
    is_measured = is_timed or (latency and backend is not None)
    bench = by_time.bench if by_time else bench_of(prepared, backend or "torch") if is_measured else None
    if is_timed and "subnet" not in steps:
        check_fast(prepared, goal, divisor, bench, by_time and by_time.table)
    original = judge(prepared.network)
    stages = [Stage("original", original, clock.lap())]

    count = sum(len(part) for part, _ in found.seen)
    clock.say(f"ranking the channels of {len(mutator.unit_counts)} width groups by {count} images")
    order = ranked(prepared, found, importance, loss, steps, judge.values)
    unsorted = mutator.sort_channels(order.scores)
    setting = Setting(prepared, order.rankings, order.curves, divisor, found, judge)

    def choice() -> dict[str, Any]:
        table = table_measured(prepared, bench, work_dir, resume, seed) if is_timed and not by_time else by_time
        return choose(setting, goal, original, table).as_dict()

    clock.say("choosing the widths")
    chosen = steps("subnet", choice, setting.read)
    subnet, spent = chosen.subnet, clock.lap()
    clock.say("refitting what is left")
    repaired = repaired_once(prepared, subnet, found.seen, judge, steps)
    stages += [replace(stage, seconds=stage.seconds + spent) if stage.name == CUT else stage for stage in repaired.way]
    stay = (f"'{name}' keeps its first units: what the network computes depends on their order" for name in unsorted)
    told = [f"the targets are not taken as class numbers: {unused}", *told] if unused else told
    notes = [*notes, *found.notes, *told, *stay, *order.notes, *chosen.notes, *repaired.notes, *prepared.notes]

    network, is_held_out = repaired.network, found.is_held_out
    full = mutator.export(mutator.search_space.max()).eval()
    if limit is not None:
        clock.say(f"tuning for {limit}")
        place = None if work_dir is None else work_dir / "tuning"
        more = {"loss": loss, "held_out": found, "seed": seed, "show": show, "values": judge.values}
        tuned = run_tuning(network, full, data, limit, place, resume, **more)
        network, is_held_out = tuned.model, found.is_held_out and tuned.is_held_out
        stages.append(Stage("tuned" if tuned.is_taken else "tuned, not taken", tuned.after, tuned.seconds))
        notes += tuned.notes
    if latency:
        clock.say("timing both networks")
    times = compare_latency(full, network, found.shape, seed=seed, bench=bench) if latency else None
    notes += slow_note(times.speed) if times else []
    if is_timed and times is not None:
        notes += check_delivered(goal, times)
    report = Report(
        model=name or type(model).__name__,
        input_shape=found.shape,
        asked=goal.asked,
        stages=stages,
        groups=group_rows(mutator, subnet, order.rankings, order.curves),
        costs={"original": costs, "slimmed": mutator.cost_model.of(subnet)},
        latency=times,
        notes=tuple(notes),
        is_held_out=is_held_out,
    )
    return Slimmed(network, subnet, report, mutator, architecture)


def _of_outputs(judge: Judge, images: Images, goal: Budget | Floor, unused: str, asked: bool) -> list[str]:
    """What is to be said of how outputs are compared, and of the images that they are compared on.

    Raises:
        UserError: Nothing tells a good network from a bad one.
    """
    outputs, targets = judge.reference[0], None if unused else judge.batches[0][1]
    notes = taken_as(outputs, targets, judge.values, asked)
    same = "" if class_numbers(outputs, targets, judge.values).heads else only_class(judge.reference, judge.values)
    if same and isinstance(goal, Floor):
        raise UserError(
            f"{goal.asked}: {same}, agreement with it tells nothing: give other images, labels, or a budget; "
            "where outputs are values, such as coordinates, give values=True"
        )
    notes += [f"{same}: how often another agrees with it tells nothing"] if same else []
    if not unused:
        notes += few_classes(outputs, images.seen, judge.values)
    if judge.images < FEW_TO_JUDGE and images.is_held_out:
        notes.append(f"only {judge.images} images judge what is lost, and choose: figures of them flatter; give more")
    return notes


def _steps(
    work_dir: Path | None,
    resume: bool,
    model: nn.Module,
    images: Images,
    mutator: OneShotChannelMutator,
    options: Mapping[str, Any],
) -> Steps:
    """Where results of steps are kept, with what decides about them."""
    if work_dir is None:
        return Steps()
    leaves = (leaf for batch in (*images.seen, *images.held_out) for leaf in tree_leaves(batch))
    identity = {
        "network": digest_of(leaf for leaf in model.state_dict().values() if isinstance(leaf, Tensor)),
        "space": mutator.search_space.fingerprint,
        "costs": mutator.cost_model.fingerprint,
        "images": digest_of(leaves),
    }
    return Steps(work_dir, {**identity, **options}, resume)


class _Clock:
    """Seconds since the last lap; and since the beginning, where it says what is going on."""

    def __init__(self, show: bool) -> None:
        self._last = self._began = time.perf_counter()
        self._show = show

    def say(self, text: str) -> None:
        """A line on stderr."""
        if self._show:
            print(f"slim, {time.perf_counter() - self._began:.0f} s: {text}", file=sys.stderr, flush=True)

    def lap(self) -> float:
        before, self._last = self._last, time.perf_counter()
        return self._last - before
