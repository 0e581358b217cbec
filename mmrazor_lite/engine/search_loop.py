"""The one search loop: a searcher asks for subnets, all processes score them, the searcher is told.

Letters: n subnets asked for at once, D choices.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite import __version__, search
from mmrazor_lite.engine.calibration import recalibrated
from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.engine.progress import StepProgress
from mmrazor_lite.engine.search_limits import finite, read_limits
from mmrazor_lite.engine.search_state import SearchState
from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.estimators.latency_ofa import read_table
from mmrazor_lite.estimators.latency_table import CostWithLatency
from mmrazor_lite.export import checkpoint_hash
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.registry import LOOPS, SEARCHERS
from mmrazor_lite.search import AccuracyPredictor, Searcher
from mmrazor_lite.subnet import Subnet, write_subnet

LOG_NAME, FRONT_NAME = "search_log.json", "front.json"
BEST = "best_subnet"
SHOW_SECONDS, SAVE_SECONDS = 1.0, 5.0  # between two lines, and two writes of the state, while a predictor scores
MMRAZOR_RANGE = {"flops": (0, 330)}

for _name in search.__all__:  # search/ knows no registry, hence no torch
    if _name.endswith("Searcher") and _name != "Searcher":
        SEARCHERS.register_module(module=getattr(search, _name), force=True)


@LOOPS.register_module(name=["SearchLoop", "AutoSlimGreedySearchLoop"])
class SearchLoop:
    """Search a supernet for its best subnets under budgets.

    The processes share the subnets to score, each scores its own on all images. Every process tells its searcher the
    same, so all ask for the same next. No subnet is scored twice. After every step the state is on disk, and
    ``run(resume=True)`` goes on from there to the same result.

    Writes into ``work_dir``: ``subnet_<resource>_<limit>M.yaml`` per budget, or ``best_subnet.yaml`` and its weights
    ``best_subnet.pth`` where the searcher takes constraints; with the ``FrontSearcher`` the weights of each budget's
    subnet and ``front.json``; ``search_log.json`` (the steps, for people), ``search_state.json`` (for resuming).

    Args:
        algorithm: The supernet with its weights loaded.
        dataloader: Config of the images to score on.
        evaluator: Config of the metric.
        searcher: Config of the searcher; by default the greedy one, or the evolution where constraints are given.
        target_flops: One budget or several; a bare number is in millions, ``'50%'`` is of the max subnet.
        target_macs: Likewise.
        target_params: Likewise.
        target_memory: Likewise, in MB.
        target_latency: Likewise, in milliseconds; needs ``latency_table``.
        constraints_range: Resource -> ``(low, high)``, both included, in the same units (milliseconds for latency);
            ``None`` is no bound, one value is the upper one. For the evolution, which takes no ``target_*``.
        latency_table: File that says what each candidate takes, see :class:`LatencyTable`; makes latency a resource.
        predictor: File of an :class:`AccuracyPredictor`; it scores the candidates, all at once, and only what was found
            is evaluated. The state is on disk every few seconds then, and after the last step.
        calibrate_dataloader: See :class:`SubnetEvaluator`.
        calibrate_sample_num: See :class:`SubnetEvaluator`.
        score_key: See :class:`SubnetEvaluator`.
        cache_gb: See :class:`SubnetEvaluator`.
        seed: Of the searcher and of the evaluator.
        work_dir: Where the results go.
        checkpoint: The file that the supernet was loaded from; its hash goes into the results.
        config: Name of the config file; goes into the results.

    Raises:
        UserError: No limit, one out of reach or of a resource without costs, an unknown searcher or option, and what
            the evaluator refuses.
    """

    def __init__(
        self,
        algorithm: nn.Module,
        dataloader: Mapping[str, Any],
        evaluator: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        searcher: Mapping[str, Any] | None = None,
        target_flops: float | str | Sequence[float | str] | None = None,
        target_macs: float | str | Sequence[float | str] | None = None,
        target_params: float | str | Sequence[float | str] | None = None,
        target_memory: float | str | Sequence[float | str] | None = None,
        target_latency: float | str | Sequence[float | str] | None = None,
        constraints_range: Mapping[str, Any] | None = None,
        latency_table: str | Path | None = None,
        predictor: str | Path | None = None,
        calibrate_dataloader: Mapping[str, Any] | None = None,
        calibrate_sample_num: int = 4096,
        score_key: str = "accuracy/top1",
        cache_gb: float = 2.0,
        seed: int = 0,
        work_dir: str | Path = ".",
        checkpoint: str | Path | None = None,
        config: str | None = None,
    ) -> None:
        self.algorithm, self.mutator = algorithm, algorithm.mutator
        self.space, self.cost = self.mutator.search_space, self.mutator.cost_model
        if latency_table is not None:
            self.cost = CostWithLatency(self.cost, read_table(latency_table, self.mutator))
        self.work_dir = Path(work_dir)
        searcher = {"type": "GreedySearcher" if constraints_range is None else "EvolutionSearcher", **(searcher or {})}
        targets = {"flops": target_flops, "macs": target_macs, "params": target_params, "memory": target_memory}
        if target_latency is not None:
            if latency_table is None:
                raise UserError("target_latency needs latency_table: a file that says what each candidate takes")
            targets["latency"] = target_latency
        cls = _searcher_class(searcher)
        takes = "constraints" if "constraints" in inspect.signature(cls).parameters else "budgets"
        self.limits = read_limits(takes, cls.__name__, targets, constraints_range, self.cost.max())
        self.searcher = _build_searcher(cls, searcher, space=self.space, cost=self.cost, seed=seed, **self.limits)
        self.evaluator = SubnetEvaluator(
            algorithm,
            dataloader,
            evaluator,
            calibrate_dataloader=calibrate_dataloader,
            calibrate_sample_num=calibrate_sample_num,
            score_key=score_key,
            seed=seed,
            cache_gb=cache_gb,
        )
        self.predictor = None if predictor is None else self._read_predictor(predictor)
        digest = f"sha256:{checkpoint_hash(checkpoint)}" if checkpoint else None
        name = Path(config).name if config else None  # folders differ between machines, results must not
        self.made_by = {"tool": "search", "config": name, "checkpoint": digest, "version": __version__}
        self.state = SearchState(
            self.work_dir,
            {
                "space": self.space.fingerprint,
                "grid": self.space.grid,
                **finite(self.limits),
                **({"latency_table": self.cost.table.digest} if latency_table is not None else {}),
                **({"predictor": checkpoint_hash(predictor)} if predictor is not None else {}),
                "searcher": searcher,
                "evaluator": self.evaluator.settings,
                "seed": seed,
                "supernet": digest,
            },
        )
        self.rank, self.world_size = get_dist_info()
        self._clock = self._saved = time.perf_counter()  # end of the last step, what was written after it included

    def _read_predictor(self, path: str | Path) -> AccuracyPredictor:
        predictor = AccuracyPredictor.read(path, self.space, self.mutator.cost_model.fingerprint)
        if predictor.encoding == "ofa":
            print_log(
                f"search: {path} does not say of which network it is; the published one is of OFAMobileNetV3 at "
                "width_mult=1.2",
                logger="current",
                level=logging.WARNING,
            )
        return predictor

    def run(self, resume: bool = False, began: Callable[[], None] | None = None) -> list[dict[str, Any]]:
        """Search to the end.

        Args:
            resume: Go on from the state in ``work_dir`` (from the start when there is none yet).
            began: Called when nothing speaks against the search any more.

        Returns:
            Per budget: ``budget`` (resource, limit; ``None`` for the best within constraints), ``file``, ``subnet``,
            ``resources`` and ``score``.

        Raises:
            UserError: The state in ``work_dir`` is of another search; a score is not a finite number.
        """
        self._load_state(resume)
        if began is not None:
            began()
        self._clock = shown = time.perf_counter()
        with StepProgress("search", start=self.searcher.progress()[0], quiet=self.rank != 0) as progress:
            while not self.searcher.done:
                self._step()
                if self.predictor is None or self.searcher.done or time.perf_counter() - shown > SHOW_SECONDS:
                    progress.update(*self.searcher.progress())
                    shown = time.perf_counter()
        self._log_speed()
        return self._write_results()

    def _step(self) -> None:
        rows = np.asarray(self.searcher.ask())
        metrics, scored, spent = self._evaluated(rows) if self.predictor is None else self._predicted(rows)
        self.searcher.tell(rows, metrics)
        self.state.steps.append(
            {
                "asked": len(rows),
                "scored": scored,
                "best_score": max(metric["score"] for metric in metrics),
                **_chosen(self.searcher),
                "seconds": self._seconds(spent),
            }
        )
        # A step of predictions takes milliseconds: writing a file after each would take most of the time.
        due = self.predictor is None or self.searcher.done or time.perf_counter() - self._saved > SAVE_SECONDS
        if self.rank == 0 and due:
            self.state.searcher = self.searcher.state_dict()
            self._write_log()
            self.state.save()
            self._saved = time.perf_counter()

    def _evaluated(self, rows: np.ndarray) -> tuple[list[dict[str, float]], int, dict[str, float]]:
        """Metrics of each row, how many were not known before, and the seconds spent on each part."""
        keys = [_key(row) for row in self.space.canonical(rows)]
        new = [key for key in dict.fromkeys(keys) if key not in self.state.memo]
        scored, spent = self._score(new)
        self.state.memo.update(scored)
        return [dict(self.state.memo[key]) for key in keys], len(new), spent

    def _predicted(self, rows: np.ndarray) -> tuple[list[dict[str, float]], int, dict[str, float]]:
        """The same from the predictor; every process predicts all of them."""
        began = time.perf_counter()
        scores = self.predictor(rows).tolist()
        return [{"score": score} for score in scores], len(rows), {"prediction": time.perf_counter() - began}

    def _seconds(self, spent: Mapping[str, float]) -> dict[str, float]:
        """Wall time since the last step ended, and of it the mean over the processes of what ``spent`` says."""
        now = time.perf_counter()
        total, self._clock = now - self._clock, now
        seconds = {"all": total, **spent, "rest": total - sum(spent.values())}
        return {name: round(value, 3) for name, value in seconds.items()}

    def _score(self, keys: list[str]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        """Score the subnets ``keys`` on all processes; everyone gets everything, in the order of ``keys``.

        Returns:
            The scores, and the seconds that a process spent on each part of an evaluation (mean over the processes).
        """
        mine: dict[str, dict[str, float]] = {}
        before = dict(self.evaluator.seconds)
        error: Exception | None = None
        try:
            for key in keys[self.rank :: self.world_size]:
                mine[key] = self._score_one(key)
        except Exception as problem:  # the others wait for this process below
            error = problem
        spent = {name: value - before[name] for name, value in self.evaluator.seconds.items()}
        gathered = all_gather_object((mine, error and f"{type(error).__name__}: {error}", spent))
        if error is not None:
            raise error
        failed = next((text for _, text, _ in gathered if text), None)
        if failed is not None:
            raise UserError(f"another process could not score its subnets: {failed}")
        scored = {key: metrics for part, _, _ in gathered for key, metrics in part.items()}
        mean = {name: sum(times[name] for _, _, times in gathered) / len(gathered) for name in spent}
        return {key: scored[key] for key in keys}, mean

    def _score_one(self, key: str) -> dict[str, float]:
        subnet = self.space.subnet(_row(key))
        metrics = self.evaluator.evaluate(subnet)
        wrong = next((name for name, value in metrics.items() if not math.isfinite(value)), None)
        if wrong is not None:
            raise UserError(
                f"search: {wrong} of {subnet} is {metrics[wrong]}; the supernet's weights or its input are broken "
                "there (was it trained to the end?)"
            )
        return metrics

    def _load_state(self, resume: bool) -> None:
        # One process reads: the others may not see its disk, and must not differ from it.
        found: list[Any] = [None, None]
        if self.rank == 0:
            self.work_dir.mkdir(parents=True, exist_ok=True)
            try:
                found[0] = self.state.read() if resume else None
            except UserError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        data, problem = found
        if problem:
            raise UserError(problem)
        if data is not None:
            self.searcher.load_state_dict(data["searcher"])
            self.state.restore(data)
            print_log(f"search: resumed after step {len(self.state.steps)} from {self.state.path}", logger="current")
        elif resume:
            print_log(f"search: nothing to resume in {self.work_dir}, starting anew", logger="current")

    def _log_speed(self) -> None:
        steps = [step["seconds"] for step in self.state.steps]
        total, scored = sum(seconds["all"] for seconds in steps), sum(step["scored"] for step in self.state.steps)
        if self.rank == 0 and total > 0:
            parts = ", ".join(f"{name} {sum(s[name] for s in steps) / total:.1%}" for name in steps[0] if name != "all")
            print_log(
                f"search: {scored} subnets scored in {total:.1f} s, {scored / total:.3g} per second ({parts})",
                logger="current",
            )

    def _write_results(self) -> list[dict[str, Any]]:
        results = []
        for budget, row, metrics in self.searcher.results():
            subnet = self.space.subnet(row)
            costs = self.cost.of(subnet)
            if self.predictor is not None:
                metrics = {"predicted": metrics["score"], **self.evaluator.evaluate(subnet)}
            score = {name: value for name, value in metrics.items() if name != "score"}
            name = BEST if budget is None else _name_of(budget)
            path = self.work_dir / f"{name}.yaml"
            if self.rank == 0:
                if budget is None or self._has_front:
                    self._write_weights(subnet, path.with_suffix(".pth"), score)  # they may be refused: first
                write_subnet(path, subnet, self.space, resources=costs, score=score, made_by=self.made_by)
                print_log(
                    f"search: {path} ({costs['macs'] / 1e6:.2f}M macs, {costs['flops'] / 1e6:.2f}M flops, "
                    f"{costs['params'] / 1e6:.2f}M params, {self.evaluator.score_key} {metrics['score']:.2f})",
                    logger="current",
                )
            limit = None if budget is None else tuple(budget)
            results.append({"budget": limit, "file": path, "subnet": subnet, "resources": costs, "score": score})
        if self.rank == 0:
            self._write_log(results)
            if self._has_front:
                self._write_front()
        return results

    @property
    def _has_front(self) -> bool:
        return hasattr(self.searcher, "front")

    def _write_front(self) -> None:
        """All subnets that nothing is both cheaper and better than, for people and plots."""
        entries = []
        for _, row, metrics in self.searcher.front():
            subnet = self.space.subnet(row)
            entries.append({"choices": subnet.to_dict(), "resources": self.cost.of(subnet), "score": metrics["score"]})
        document = {"made_by": self.made_by, "resource": self.searcher.resource, "front": entries}
        write_text_atomic(self.work_dir / FRONT_NAME, json.dumps(document, indent=2) + "\n")

    def _write_weights(self, subnet: Subnet, path: Path, score: Mapping[str, float]) -> None:
        from mmrazor_lite.export.best import write_best_checkpoint

        def calibrated() -> AbstractContextManager:
            return recalibrated(self.algorithm, self.evaluator.calibration)

        write_best_checkpoint(self.algorithm, subnet, path, score=score, calibrated=calibrated)

    def _write_log(self, results: Sequence[Mapping[str, Any]] = ()) -> None:
        found = [
            {"file": result["file"].name, "resources": result["resources"], "score": result["score"]}
            for result in results
        ]
        log = {
            "made_by": self.made_by,
            **{kind: self.state.identity[kind] for kind in self.limits},
            "subnets_scored": sum(step["scored"] for step in self.state.steps),
            "results": found,
            "steps": self.state.steps,
        }
        write_text_atomic(self.work_dir / LOG_NAME, json.dumps(log, indent=2) + "\n")


def build_search_loop(search_cfg: Mapping[str, Any], **context: Any) -> SearchLoop:
    """Build the loop of a ``search_cfg``, refusing unknown keys with the nearest one.

    Args:
        search_cfg: ``type`` and its arguments: of :class:`SearchLoop` (also under MMRazor's name
            ``AutoSlimGreedySearchLoop``), or of :func:`evolution_search_loop` (``EvolutionSearchLoop``).
        **context: Arguments that the config need not give (algorithm, work_dir, checkpoint ...).

    Raises:
        UserError: An unknown key or type, a missing key, and what :class:`SearchLoop` refuses.
    """
    config = dict(search_cfg)
    kind = config.pop("type", "SearchLoop")
    loop = LOOPS.get(kind) if isinstance(kind, str) and kind.split(".")[-1] in LOOPS.module_dict else None
    if loop is None:
        raise UserError(f"search_cfg: unknown type {kind!r}{nearest(str(kind), LOOPS.module_dict)}")
    arguments = {**context, **config}
    _check_arguments(loop, arguments, "search_cfg")
    return loop(**arguments)


def is_search_loop(kind: Any) -> bool:
    """Whether what a config's ``type`` names is the search loop, under whichever name."""
    return kind is evolution_search_loop or (inspect.isclass(kind) and issubclass(kind, SearchLoop))


@LOOPS.register_module(name="EvolutionSearchLoop")
def evolution_search_loop(
    algorithm: nn.Module,
    dataloader: Mapping[str, Any],
    evaluator: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    max_epochs: int = 20,
    max_keep_ckpts: int | None = None,
    resume_from: str | None = None,
    num_candidates: int = 50,
    top_k: int = 10,
    num_mutation: int = 25,
    num_crossover: int = 25,
    mutate_prob: float = 0.1,
    crossover_prob: float = 0.5,
    calibrate_sample_num: int = -1,
    constraints_range: Mapping[str, Any] | None = MMRAZOR_RANGE,
    estimator_cfg: Mapping[str, Any] | None = None,
    predictor_cfg: Mapping[str, Any] | None = None,
    score_key: str = "accuracy/top1",
    init_candidates: Sequence[Any] | None = None,
    calibrate_dataloader: Mapping[str, Any] | None = None,
    latency_table: str | Path | None = None,
    predictor: str | Path | None = None,
    cache_gb: float = 2.0,
    seed: int = 0,
    work_dir: str | Path = ".",
    checkpoint: str | Path | None = None,
    config: str | None = None,
) -> SearchLoop:
    """Build a :class:`SearchLoop` with an ``EvolutionSearcher`` from the options of MMRazor's ``EvolutionSearchLoop``.

    Two of them mean something else here. ``calibrate_sample_num=-1``, MMRazor's default, recalibrates on as many
    images as :class:`SearchLoop` does by default (0 turns it off); ``max_keep_ckpts`` changes nothing, as the one state
    file is replaced after each epoch.

    Raises:
        UserError: A predictor, ``resume_from``, an estimator for another input size, and what the loop refuses.
    """
    if predictor_cfg is not None:
        raise UserError(
            "predictor_cfg is not supported: MMRazor's predictors are fitted during the search; remove it, or give "
            "predictor=FILE, one that tools/predictor/train.py wrote"
        )
    if resume_from is not None:
        raise UserError("resume_from is not supported: give the same --work-dir and --resume instead")
    check_estimator(estimator_cfg or {}, algorithm.input_shape)
    if max_keep_ckpts is not None:
        print_log("search: max_keep_ckpts has no effect: one search_state.json is kept up to date", logger="current")
    if calibrate_sample_num < 0:
        calibrate_sample_num = inspect.signature(SearchLoop).parameters["calibrate_sample_num"].default
        print_log(
            f"search: batch norm is recalibrated on {calibrate_sample_num} images per subnet (calibrate_sample_num=0 "
            "turns it off)",
            logger="current",
        )
    searcher = {
        "type": "EvolutionSearcher",
        "max_epochs": max_epochs,
        "num_candidates": num_candidates,
        "top_k": top_k,
        "num_mutation": num_mutation,
        "num_crossover": num_crossover,
        "mutate_prob": mutate_prob,
        "crossover_prob": crossover_prob,
        "init_candidates": init_candidates,
    }
    return SearchLoop(
        algorithm,
        dataloader,
        evaluator,
        searcher,
        constraints_range={} if constraints_range is None else constraints_range,
        latency_table=latency_table,
        predictor=predictor,
        calibrate_dataloader=calibrate_dataloader,
        calibrate_sample_num=calibrate_sample_num,
        score_key=score_key,
        cache_gb=cache_gb,
        seed=seed,
        work_dir=work_dir,
        checkpoint=checkpoint,
        config=config,
    )


def check_estimator(config: Mapping[str, Any], input_shape: tuple[int, ...]) -> None:
    """Refuse an ``estimator_cfg`` for images of another size: costs are counted for the model's."""
    for part in (config, config.get("flops_params_cfg") or {}):
        shape = part.get("input_shape")
        if shape is not None and tuple(shape)[-3:] != tuple(input_shape):
            raise UserError(
                f"estimator_cfg: input_shape {tuple(shape)} is not the model's {tuple(input_shape)}, which costs are "
                "counted for; set model.input_shape, or leave estimator_cfg out"
            )


def _searcher_class(config: Mapping[str, Any]) -> type:
    kind = str(config["type"]).removeprefix(f"{SEARCHERS.scope}.")
    if kind not in SEARCHERS.module_dict:
        options = ", ".join(SEARCHERS.module_dict)
        raise UserError(f"search_cfg.searcher: unknown type '{kind}'{nearest(kind, SEARCHERS.module_dict)} ({options})")
    return SEARCHERS.module_dict[kind]


def _build_searcher(cls: type, config: Mapping[str, Any], **context: Any) -> Searcher:
    options = {key: value for key, value in config.items() if key != "type"}
    _check_arguments(cls, {**options, **context}, f"search_cfg.searcher ({cls.__name__})")
    return cls(**options, **context)


def _check_arguments(cls: Callable, arguments: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(cls).parameters
    for key in arguments:
        if key not in parameters:
            allowed = ", ".join(parameters)
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, parameters)} (allowed: {allowed})")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            raise UserError(f"{where}: the key '{key}' is missing")


def _name_of(budget: Any) -> str:
    """File name of the subnet for a budget, without its ending."""
    if budget.resource == "latency":
        return f"subnet_latency_{budget.limit:g}ms"
    return f"subnet_{budget.resource}_{budget.limit / 1e6:g}M"


def _key(row: np.ndarray) -> str:
    return ",".join(map(str, row.tolist()))


def _row(key: str) -> np.ndarray:
    return np.array(key.split(","), dtype=np.int64)


def _chosen(searcher: Searcher) -> dict[str, Any]:
    history = getattr(searcher, "history", None)
    return dict(history[-1]) if history else {"progress": searcher.progress()[1]}
