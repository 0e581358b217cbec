"""The one search loop: a searcher asks for subnets, all processes score them, the searcher is told.

Letters: n subnets asked for at once, D choices.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite import __version__
from mmrazor_lite.engine.batches import CALIBRATION_IMAGES
from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.engine.progress import StepProgress
from mmrazor_lite.engine.scoring import Scorer
from mmrazor_lite.engine.search_limits import finite, read_limits
from mmrazor_lite.engine.search_output import Found, SearchOutput
from mmrazor_lite.engine.search_state import SearchState
from mmrazor_lite.engine.searchers import build_searcher, searcher_class
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_ofa import read_table
from mmrazor_lite.estimators.latency_table import CostWithLatency
from mmrazor_lite.export import checkpoint_hash
from mmrazor_lite.models.algorithms.identity import origin
from mmrazor_lite.registry import LOOPS
from mmrazor_lite.search import AccuracyPredictor, Cost, HasHistory, Searcher

SHOW_SECONDS, SAVE_SECONDS = 1.0, 5.0  # between two lines, and two writes of the state, while a predictor scores


@LOOPS.register_module(name=["SearchLoop", "AutoSlimGreedySearchLoop"])
class SearchLoop:
    """Search a supernet for its best subnets under budgets.

    The processes share the subnets to score, each scores its own on all images. Every process tells its searcher the
    same, so all ask for the same next. No subnet is scored twice. Every score is on disk as soon as it is there, and
    after every step the state is; ``run(resume=True)`` goes on from there to the same result.

    Writes into ``work_dir``: ``subnet_<resource>_<limit>M.yaml`` per budget, or ``best_subnet.yaml`` and its weights
    ``best_subnet.pth`` where the searcher takes constraints; with the ``FrontSearcher`` the weights of each budget's
    subnet and ``front.json``; ``search_log.json`` (the steps, for people), ``search_state.json`` and, while it runs,
    ``search_scores_*.jsonl`` (for resuming).

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
        score_on_trained_images: See :class:`SubnetEvaluator`.
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
        calibrate_sample_num: int = CALIBRATION_IMAGES,
        score_key: str = "accuracy/top1",
        cache_gb: float = 2.0,
        score_on_trained_images: bool = False,
        seed: int = 0,
        work_dir: str | Path = ".",
        checkpoint: str | Path | None = None,
        config: str | None = None,
    ) -> None:
        self.algorithm, self.mutator = algorithm, algorithm.mutator
        self.space = self.mutator.search_space
        self.cost: Cost = self.mutator.cost_model
        if latency_table is not None:
            self.cost = CostWithLatency(self.cost, read_table(latency_table, self.mutator))
        self.work_dir = Path(work_dir)
        searcher = {"type": "GreedySearcher" if constraints_range is None else "EvolutionSearcher", **(searcher or {})}
        targets = {"flops": target_flops, "macs": target_macs, "params": target_params, "memory": target_memory}
        if target_latency is not None:
            if latency_table is None:
                raise UserError("target_latency needs latency_table: a file that says what each candidate takes")
            targets["latency"] = target_latency
        cls = searcher_class(searcher)
        self.limits = read_limits(cls.takes, cls.__name__, targets, constraints_range, self.cost.max())
        self.searcher: Searcher = build_searcher(cls, searcher, self.space, self.cost, seed, self.limits)
        self.evaluator = SubnetEvaluator(
            algorithm,
            dataloader,
            evaluator,
            calibrate_dataloader=calibrate_dataloader,
            calibrate_sample_num=calibrate_sample_num,
            score_key=score_key,
            seed=seed,
            cache_gb=cache_gb,
            score_on_trained_images=score_on_trained_images,
        )
        self.predictor = None if predictor is None else self._read_predictor(predictor)
        digest = f"sha256:{checkpoint_hash(checkpoint)}" if checkpoint else None
        name = Path(config).name if config else None  # folders differ between machines, results must not
        self.made_by = {"tool": "search", "config": name, "checkpoint": digest, "version": __version__}
        self.made_by |= origin(self.mutator)
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
        self.scorer = Scorer(self.space, self.evaluator, self.state)
        self.output = SearchOutput(self)
        self._shown = StepProgress("search", quiet=True)
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
        with StepProgress("search", start=self.searcher.progress()[0], quiet=self.rank != 0) as self._shown:
            while not self.searcher.done:
                self._step()
                if self.predictor is None or self.searcher.done or time.perf_counter() - shown > SHOW_SECONDS:
                    self._shown.update(*self.searcher.progress())
                    shown = time.perf_counter()
            found = self._found()
        self._log_speed()
        results = self.output.write(found)
        self.scorer.end()
        return results

    def _step(self) -> None:
        rows = np.asarray(self.searcher.ask())
        if not len(rows):
            raise UserError(f"search: the {type(self.searcher).__name__} asks for no subnet, and is not done")
        if self.predictor is None:
            metrics, scored, spent = self.scorer(rows, self._shown.inside)
        else:
            metrics, scored, spent = self._predicted(rows)
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
            self.output.write_log()
            self.state.save()
            self._saved = time.perf_counter()

    def _predicted(self, rows: np.ndarray) -> tuple[list[dict[str, float]], int, dict[str, float]]:
        """As the scorer, from the predictor; every process predicts all of them."""
        began = time.perf_counter()
        scores = self.predictor(rows).tolist()
        return [{"score": score} for score in scores], len(rows), {"prediction": time.perf_counter() - began}

    def _seconds(self, spent: Mapping[str, float]) -> dict[str, float]:
        """Wall time since the last step ended, and of it the mean over the processes of what ``spent`` says."""
        now = time.perf_counter()
        total, self._clock = now - self._clock, now
        seconds = {"all": total, **spent, "rest": total - sum(spent.values())}
        return {name: round(value, 3) for name, value in seconds.items()}

    def _found(self) -> list[Found]:
        """What the searcher found, with scores of real evaluations; nothing is written before all have theirs."""
        results = self.searcher.results()
        if not results:
            raise UserError(f"search: the {type(self.searcher).__name__} is done and has found no subnet")
        metrics: list[Mapping[str, float]] = [result.metrics for result in results]
        if self.predictor is not None:
            real, _, _ = self.scorer(np.stack([result.row for result in results]), self._shown.inside)
            metrics = [{"predicted": told["score"], **found} for told, found in zip(metrics, real, strict=True)]
        return [
            Found(result.budget, subnet, self.cost.of(subnet), dict(metric))
            for result, metric in zip(results, metrics, strict=True)
            for subnet in [self.space.subnet(result.row)]
        ]

    def _load_state(self, resume: bool) -> None:
        # One process reads: the others may not see its disk, and must not differ from it.
        found: list[Any] = [None, None]
        if self.rank == 0:
            self.work_dir.mkdir(parents=True, exist_ok=True)
            try:
                self.output.check()
                found[0] = self.state.read() if resume else None
            except UserError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        data, problem = found
        if problem:
            raise UserError(problem)
        if data is not None:
            self.state.restore(data, self.searcher)
            print_log(f"search: resumed after step {len(self.state.steps)} from {self.state.path}", logger="current")
        kept = self.scorer.begin(resume)
        if kept:
            print_log(f"search: {kept} subnets were scored after that, and are not scored again", logger="current")
        elif resume and data is None:
            print_log(f"search: nothing to resume in {self.work_dir}, starting anew", logger="current")

    def _log_speed(self) -> None:
        steps = [step["seconds"] for step in self.state.steps]
        total, scored = sum(seconds["all"] for seconds in steps), sum(step["scored"] for step in self.state.steps)
        if self.rank == 0 and total > 0:
            names = [name for name in steps[0] if name != "all"]
            parts = ", ".join(f"{name} {sum(s.get(name, 0) for s in steps) / total:.1%}" for name in names)
            print_log(
                f"search: {scored} subnets scored in {total:.1f} s, {scored / total:.3g} per second ({parts})",
                logger="current",
            )


def _chosen(searcher: Searcher) -> dict[str, Any]:
    if isinstance(searcher, HasHistory) and searcher.history:
        return dict(searcher.history[-1])
    return {"progress": searcher.progress()[1]}
