"""The one search loop: a searcher asks for subnets, all processes score them, the searcher is told.

Letters: n subnets asked for at once, D choices.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite import __version__
from mmrazor_lite.checkpoints import checkpoint_hash
from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.engine.progress import StepProgress
from mmrazor_lite.engine.scoring import Scorer
from mmrazor_lite.engine.search_limits import finite, read_limits
from mmrazor_lite.engine.search_output import Found, Front, SearchOutput
from mmrazor_lite.engine.search_predictor import SearchPredictor
from mmrazor_lite.engine.search_settings import SearchSettings
from mmrazor_lite.engine.search_state import SearchState
from mmrazor_lite.engine.searchers import build_searcher, searcher_class
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_table import CostWithLatency, LatencyTable
from mmrazor_lite.models.said import origin
from mmrazor_lite.search import Cost, HasFront, HasHistory, Result, Searcher
from mmrazor_lite.search.offered import OfferedCost, offered, that_pay
from mmrazor_lite.search.protocols import asked_of, state_of
from mmrazor_lite.subnet import SearchSpace

SHOW_SECONDS, SAVE_SECONDS = 1.0, 5.0  # between two lines, and two writes of the state, while a predictor scores


class SearchLoop:
    """Search a supernet for its best subnets under budgets.

    The processes share the subnets to score, each scores its own on all images. Every process tells its searcher the
    same, so all ask for the same next. No subnet is scored twice. Every score is on disk as soon as it is there, and
    after every step the state is; ``run(resume=True)`` goes on from there to the same result.

    Writes into ``work_dir``: ``subnet_<resource>_<limit>M.yaml`` per budget, or ``best_subnet.yaml`` and its weights
    ``best_subnet.pth`` where the searcher takes constraints; with the ``FrontSearcher`` the weights of each budget's
    subnet and ``front.json``; ``search_log.json`` (the steps, for people), ``search_state.json`` and, while it runs,
    ``search_scores_*.jsonl`` (for resuming); last ``report.html`` and ``report.json``, the page.

    Args:
        algorithm: The supernet with its weights loaded.
        settings: What to search for, and how to score.
        work_dir: Where the results go.
        checkpoint: The file that the supernet was loaded from; its hash goes into the results.
        config: Name of the config file; goes into the results.
        command: That made them, for the page.

    Raises:
        UserError: No limit, one out of reach or of a resource without costs, an unknown searcher or option, and what
            the evaluator refuses.
    """

    def __init__(
        self,
        algorithm: nn.Module,
        settings: SearchSettings,
        work_dir: str | Path = ".",
        checkpoint: str | Path | None = None,
        config: str | None = None,
        command: str = "",
    ) -> None:
        self.work_dir, self.space = Path(work_dir), algorithm.mutator.search_space
        table = _table(algorithm.mutator, settings)
        cost_model = algorithm.mutator.cost_model
        self.cost = cost_model if table is None else CostWithLatency(cost_model, table)
        self._offered = _that_pay(self.space, self.cost, table, settings.divisor)  # what the searcher chooses from
        searcher = settings.searcher_config
        cls = searcher_class(searcher)
        ranges = settings.constraints_range
        self.limits = read_limits(cls.takes, cls.__name__, settings.targets, ranges, self.cost.max())
        space, cost = self._offered or (self.space, self.cost)
        self.searcher: Searcher = build_searcher(cls, searcher, space, cost, settings.seed, self.limits)
        self.evaluator = SubnetEvaluator(algorithm, settings)
        constraints = self.limits.get("constraints", [])
        self.predictor = SearchPredictor(settings.predictor, algorithm.mutator, constraints, self.cost, settings.seed)
        digest = f"sha256:{checkpoint_hash(checkpoint)}" if checkpoint else None
        self.state = SearchState(
            self.work_dir,
            {
                "space": self.space.fingerprint,
                "grid": self.space.grid,
                **finite(self.limits),
                **({} if table is None else {"latency_table": table.digest}),
                **({} if self._offered is None else {"divisor": settings.divisor}),
                **self.predictor.identity,
                "searcher": searcher,
                "evaluator": self.evaluator.settings,
                "seed": settings.seed,
                "supernet": digest,
            },
        )
        self.rank, self.world_size = get_dist_info()
        self.scorer = Scorer(self.space, self.evaluator, self.state)
        name = Path(config).name if config else None  # folders differ between machines, results must not
        made_by = {"tool": "search", "config": name, "checkpoint": digest, "version": __version__}
        made_by |= origin(algorithm.mutator)
        self.output = SearchOutput(algorithm, self.cost, self.state, self.evaluator, made_by, command)
        self._shown = StepProgress("search", quiet=True)
        self._told_twice = False
        self._clock = self._saved = time.perf_counter()  # end of the last step, what was written after it included

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
            self.predictor.fit(lambda rows: self.scorer(rows, self._shown.inside)[0], self.work_dir)
            while not self.searcher.done:
                self._step()
                if not self.predictor.is_used or self.searcher.done or time.perf_counter() - shown > SHOW_SECONDS:
                    self._shown.update(*self.searcher.progress())
                    shown = time.perf_counter()
            found = self._found()
        self._log_speed()
        results = self.output.write(found, self._front())
        self.scorer.end()
        return results

    def _step(self) -> None:
        asked = asked_of(self.searcher, self.space if self._offered is None else self._offered[0])
        rows = self._whole(asked)
        if len(np.unique(rows, axis=0)) < len(rows) and not self._told_twice:
            self._told_twice = True
            print_log(
                f"the {type(self.searcher).__name__} asks for subnets more than once; each is scored once",
                logger="current",
                level=logging.WARNING,
            )
        if not self.predictor.is_used:
            metrics, scored, spent = self.scorer(rows, self._shown.inside)
        else:
            metrics, scored, spent = self._predicted(rows)
        self.searcher.tell(asked, metrics)
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
        due = not self.predictor.is_used or self.searcher.done or time.perf_counter() - self._saved > SAVE_SECONDS
        if self.rank == 0 and due:
            self.state.searcher = state_of(self.searcher)
            self.output.write_log()
            self.state.save()
            self._saved = time.perf_counter()

    def _whole(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the searcher as those of the space."""
        return rows if self._offered is None else self._offered[1].whole(rows)

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
        results = [found._replace(row=self._whole(found.row[None])[0]) for found in self.searcher.results()]
        if not results:
            raise UserError(f"search: the {type(self.searcher).__name__} is done and has found no subnet")
        metrics: list[Mapping[str, float]] = [result.metrics for result in results]
        if self.predictor.is_used:
            real, _, _ = self.scorer(np.stack([result.row for result in results]), self._shown.inside)
            metrics = [{"predicted": told["score"], **found} for told, found in zip(metrics, real, strict=True)]
        pairs = zip(results, metrics, strict=True)
        return [self._priced(result._replace(metrics=dict(metric))) for result, metric in pairs]

    def _front(self) -> Front | None:
        """All subnets that nothing is both cheaper and better than, where the searcher has them."""
        if not isinstance(self.searcher, HasFront):
            return None
        front = [found._replace(row=self._whole(found.row[None])[0]) for found in self.searcher.front()]
        return Front(self.searcher.resource, [self._priced(result) for result in front])

    def _priced(self, result: Result) -> Found:
        subnet = self.space.subnet(result.row)
        return Found(result.budget, subnet, self.cost.of(subnet), result.metrics)

    def _load_state(self, resume: bool) -> None:
        # One process reads: the others may not see its disk, and must not differ from it.
        found: list[Any] = [None, None]
        if self.rank == 0:
            self.work_dir.mkdir(parents=True, exist_ok=True)
            try:
                self.output.check(self.limits.get("budgets"), self.predictor.writes)
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


def _table(mutator: Any, settings: SearchSettings) -> LatencyTable | None:
    """The latency table of a search."""
    if settings.latency_table is not None:
        return read_table(settings.latency_table, mutator)
    if settings.target_latency is not None:
        raise UserError("target_latency needs latency_table: a file that says what each candidate takes")
    return None


def _that_pay(
    space: SearchSpace, cost: Cost, table: LatencyTable | None, divisor: str | None
) -> tuple[SearchSpace, OfferedCost] | None:
    """The space of the widths that pay by a latency table, and what its rows cost; None: of all."""
    if divisor is None:
        return None
    if divisor != "auto":
        raise UserError(
            f"search_cfg.divisor={short(divisor)}: 'auto' is allowed, which takes the steps of latency_table; other "
            "divisors are the mutator's, model.mutator.divisor"
        )
    if table is None:
        raise UserError("search_cfg.divisor='auto' takes the steps of a latency table; give latency_table")
    if table.widths is None:
        raise UserError(
            "search_cfg.divisor='auto': the latency table has no steps; tables of widths that are found by tracing "
            "have them (OneShotChannelMutator), in other spaces leave it out"
        )
    found = offered(space, that_pay(space, table.steps))
    counts = [sum(len(choice.candidates) for choice in one.values()) for one in (found, space)]
    steps = Counter(table.steps.get(name, 1) for name in space)
    told = ", ".join(f"{step} for {steps[step]}" for step in sorted(steps))
    print_log(
        f"search: of {counts[1]} widths {counts[0]} pay by the latency table, in steps of {told} groups",
        logger="current",
    )
    return found, OfferedCost(found, cost, space)


def _chosen(searcher: Searcher) -> dict[str, Any]:
    if isinstance(searcher, HasHistory) and searcher.history:
        return dict(searcher.history[-1])
    return {"progress": searcher.progress()[1]}
