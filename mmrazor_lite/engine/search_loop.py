"""The one search loop: a searcher asks for subnets, all processes score them, the searcher is told.

Letters: n subnets asked for at once, D choices.
"""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite import __version__, search
from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.engine.progress import StepProgress
from mmrazor_lite.engine.search_state import SearchState
from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.export import checkpoint_hash
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.registry import LOOPS, SEARCHERS
from mmrazor_lite.search import Searcher
from mmrazor_lite.subnet import parse_budget, write_subnet

LOG_NAME = "search_log.json"

for _name in search.__all__:  # search/ knows no registry, hence no torch
    if _name.endswith("Searcher") and _name != "Searcher":
        SEARCHERS.register_module(module=getattr(search, _name), force=True)


@LOOPS.register_module(name=["SearchLoop", "AutoSlimGreedySearchLoop"])
class SearchLoop:
    """Search a supernet for its best subnets under budgets.

    The processes share the subnets to score, each scores its own on all images. Every process tells its searcher the
    same, so all ask for the same next. No subnet is scored twice. After every step the state is on disk, and
    ``run(resume=True)`` goes on from there to the same result.

    Writes into ``work_dir``: ``subnet_<resource>_<limit>M.yaml`` per budget, ``search_log.json`` (the steps, for
    people), ``search_state.json`` (for resuming).

    Args:
        algorithm: The supernet with its weights loaded.
        dataloader: Config of the images to score on.
        evaluator: Config of the metric.
        searcher: Config of the searcher.
        target_flops: One budget or several; a bare number is in millions, ``'50%'`` is of the max subnet.
        target_macs: Likewise.
        target_params: Likewise.
        target_memory: Likewise, in MB.
        calibrate_dataloader: See :class:`SubnetEvaluator`.
        calibrate_sample_num: See :class:`SubnetEvaluator`.
        score_key: See :class:`SubnetEvaluator`.
        cache_gb: See :class:`SubnetEvaluator`.
        seed: Of the searcher and of the evaluator.
        work_dir: Where the results go.
        checkpoint: The file that the supernet was loaded from; its hash goes into the results.
        config: Name of the config file; goes into the results.

    Raises:
        UserError: No budget, one out of reach, an unknown searcher or option, and what the evaluator refuses.
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
        calibrate_dataloader: Mapping[str, Any] | None = None,
        calibrate_sample_num: int = 4096,
        score_key: str = "accuracy/top1",
        cache_gb: float = 2.0,
        seed: int = 0,
        work_dir: str | Path = ".",
        checkpoint: str | Path | None = None,
        config: str | None = None,
    ) -> None:
        self.mutator = algorithm.mutator
        self.space, self.cost = self.mutator.search_space, self.mutator.cost_model
        self.work_dir = Path(work_dir)
        targets = {"flops": target_flops, "macs": target_macs, "params": target_params, "memory": target_memory}
        budgets = self._budgets(targets)
        searcher = dict(searcher or {"type": "GreedySearcher"})
        self.searcher = _build_searcher(searcher, space=self.space, cost=self.cost, budgets=budgets, seed=seed)
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
        digest = f"sha256:{checkpoint_hash(checkpoint)}" if checkpoint else None
        name = Path(config).name if config else None  # folders differ between machines, results must not
        self.made_by = {"tool": "search", "config": name, "checkpoint": digest, "version": __version__}
        self.state = SearchState(
            self.work_dir,
            {
                "space": self.space.fingerprint,
                "grid": self.space.grid,
                "budgets": [[resource, limit] for resource, limit in budgets],
                "searcher": searcher,
                "evaluator": self.evaluator.settings,
                "seed": seed,
                "supernet": digest,
            },
        )
        self.rank, self.world_size = get_dist_info()

    def run(self, resume: bool = False) -> list[dict[str, Any]]:
        """Search to the end.

        Args:
            resume: Go on from the state in ``work_dir`` (from the start when there is none yet).

        Returns:
            Per budget: ``budget`` (resource, limit), ``file``, ``subnet``, ``resources`` and ``score``.

        Raises:
            UserError: The state in ``work_dir`` is of another search; a score is not a finite number.
        """
        self._load_state(resume)
        with StepProgress("search", start=self.searcher.progress()[0], quiet=self.rank != 0) as progress:
            while not self.searcher.done:
                self._step()
                progress.update(*self.searcher.progress())
        return self._write_results()

    def _step(self) -> None:
        began = time.monotonic()
        rows = np.asarray(self.searcher.ask())
        keys = [_key(row) for row in self.space.canonical(rows)]
        new = [key for key in dict.fromkeys(keys) if key not in self.state.memo]
        self.state.memo.update(self._score(new))
        metrics = [dict(self.state.memo[key]) for key in keys]
        self.searcher.tell(rows, metrics)
        self.state.searcher = self.searcher.state_dict()
        self.state.steps.append(
            {
                "asked": len(keys),
                "scored": len(new),
                "best_score": max(metric["score"] for metric in metrics),
                **_chosen(self.searcher),
                "seconds": round(time.monotonic() - began, 3),
            }
        )
        if self.rank == 0:
            self._write_log()
            self.state.save()

    def _score(self, keys: list[str]) -> dict[str, dict[str, float]]:
        """Score the subnets ``keys`` on all processes; everyone gets everything, in the order of ``keys``."""
        mine: dict[str, dict[str, float]] = {}
        error: Exception | None = None
        try:
            for key in keys[self.rank :: self.world_size]:
                mine[key] = self._score_one(key)
        except Exception as problem:  # the others wait for this process below
            error = problem
        gathered = all_gather_object((mine, error and f"{type(error).__name__}: {error}"))
        if error is not None:
            raise error
        failed = next((text for _, text in gathered if text), None)
        if failed is not None:
            raise UserError(f"another process could not score its subnets: {failed}")
        scored = {key: metrics for part, _ in gathered for key, metrics in part.items()}
        return {key: scored[key] for key in keys}

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

    def _budgets(self, targets: Mapping[str, Any]) -> list[tuple[str, float]]:
        largest = self.cost.max()
        budgets = []
        for resource, values in targets.items():
            if values is None:
                continue
            several = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
            budgets += [(resource, parse_budget(value, resource, largest[resource])) for value in several]
        if not budgets:
            raise UserError(f"the search has no budget; give {' or '.join(f'target_{key}' for key in targets)}")
        return budgets

    def _write_results(self) -> list[dict[str, Any]]:
        results = []
        for (resource, limit), row, metrics in self.searcher.results():
            subnet = self.space.subnet(row)
            costs = self.cost.of(subnet)
            score = {name: value for name, value in metrics.items() if name != "score"}
            path = self.work_dir / f"subnet_{resource}_{limit / 1e6:g}M.yaml"
            if self.rank == 0:
                write_subnet(path, subnet, self.space, resources=costs, score=score, made_by=self.made_by)
                print_log(
                    f"search: {path} ({costs['macs'] / 1e6:.2f}M macs, {costs['flops'] / 1e6:.2f}M flops, "
                    f"{costs['params'] / 1e6:.2f}M params, {self.evaluator.score_key} {metrics['score']:.2f})",
                    logger="current",
                )
            results.append(
                {"budget": (resource, limit), "file": path, "subnet": subnet, "resources": costs, "score": score}
            )
        if self.rank == 0:
            self._write_log(results)
        return results

    def _write_log(self, results: Sequence[Mapping[str, Any]] = ()) -> None:
        found = [
            {"file": result["file"].name, "resources": result["resources"], "score": result["score"]}
            for result in results
        ]
        log = {
            "made_by": self.made_by,
            "budgets": self.state.identity["budgets"],
            "subnets_scored": len(self.state.memo),
            "results": found,
            "steps": self.state.steps,
        }
        write_text_atomic(self.work_dir / LOG_NAME, json.dumps(log, indent=2) + "\n")


def build_search_loop(search_cfg: Mapping[str, Any], **context: Any) -> SearchLoop:
    """Build the loop of a ``search_cfg``, refusing unknown keys with the nearest one.

    Args:
        search_cfg: ``type`` (``SearchLoop`` or MMRazor's ``AutoSlimGreedySearchLoop``) and arguments of
            :class:`SearchLoop`.
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


def _build_searcher(config: Mapping[str, Any], **context: Any) -> Searcher:
    config = dict(config)
    kind = str(config.pop("type", "GreedySearcher")).removeprefix(f"{SEARCHERS.scope}.")
    if kind not in SEARCHERS.module_dict:
        options = ", ".join(SEARCHERS.module_dict)
        raise UserError(f"search_cfg.searcher: unknown type '{kind}'{nearest(kind, SEARCHERS.module_dict)} ({options})")
    cls = SEARCHERS.module_dict[kind]
    _check_arguments(cls, {**config, **context}, f"search_cfg.searcher ({kind})")
    return cls(**config, **context)


def _check_arguments(cls: type, arguments: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(cls).parameters
    for key in arguments:
        if key not in parameters:
            allowed = ", ".join(parameters)
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, parameters)} (allowed: {allowed})")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            raise UserError(f"{where}: the key '{key}' is missing")


def _key(row: np.ndarray) -> str:
    return ",".join(map(str, row.tolist()))


def _row(key: str) -> np.ndarray:
    return np.array(key.split(","), dtype=np.int64)


def _chosen(searcher: Searcher) -> dict[str, Any]:
    history = getattr(searcher, "history", None)
    return dict(history[-1]) if history else {"progress": searcher.progress()[1]}
