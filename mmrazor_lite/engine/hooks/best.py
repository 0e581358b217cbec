"""Which checkpoint is the best so far, by the metrics of the validations."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError

GREATER = ("acc", "top", "AR@", "auc", "precision", "mAP", "mDice", "mIoU", "mAcc", "aAcc")  # mmengine's
LESS = ("loss",)
WHERE = "default_hooks.checkpoint"


class BestSoFar:
    """The best score and the file of it, for each metric that is kept by; mmengine's options and names of files.

    Args:
        keys: Metrics as the validation names them, such as ``max_subnet.accuracy/top1``; ``'auto'`` is the first one,
            of several subnets the largest's.
        rule: ``'greater'`` or ``'less'``, or one for each of ``keys``; by default told by the name.
        greater_keys: Parts of names of metrics that are better when greater.
        less_keys: Likewise.

    Raises:
        UserError: Options that do not fit together.
    """

    def __init__(
        self,
        keys: str | Sequence[str],
        rule: str | Sequence[str] | None = None,
        greater_keys: str | Sequence[str] | None = None,
        less_keys: str | Sequence[str] | None = None,
    ) -> None:
        self.keys = _texts("save_best", keys)
        if len(set(self.keys)) < len(self.keys) or ("auto" in self.keys and len(self.keys) > 1):
            raise UserError(f"{WHERE}.save_best={keys!r}: give each metric once, or 'auto' alone")
        rules = [None] if rule is None else _texts("rule", rule)
        for one in rules:
            if one not in (None, "greater", "less"):
                raise UserError(f"{WHERE}.rule={rule!r}: allowed are 'greater' and 'less'")
        if len(rules) not in (1, len(self.keys)):
            raise UserError(f"{WHERE}.rule has {len(rules)} entries, save_best {len(self.keys)}: give one, or as many")
        self._rules = dict(zip(self.keys, rules * len(self.keys), strict=False))
        self._greater = GREATER if greater_keys is None else _texts("greater_keys", greater_keys)
        self._less = LESS if less_keys is None else _texts("less_keys", less_keys)
        self.found: dict[str, tuple[float, str]] = {}  # metric -> score, name of the file
        for key in self.keys:
            if key != "auto":
                self._rule(key, self._rules[key])

    def check_names(self, subnets: Sequence[str]) -> None:
        """Raise ``UserError`` before the training where no validation of ``subnets`` can give a metric."""
        for key in self.keys:
            if subnets and key != "auto" and key.partition(".")[0] not in subnets:
                options = ", ".join(f"{name}.{key}" for name in subnets[:3])
                raise UserError(f"{WHERE}.save_best={key!r}: of which subnet? such as {options}, or 'auto'")

    def improved(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics that are better than ever, with their scores.

        Raises:
            UserError: A metric that the validation does not give, or that is no number.
        """
        better = {}
        for wanted in self.keys:
            key = next(iter(metrics), wanted) if wanted == "auto" else wanted
            value = metrics.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                names = ", ".join(name for name, other in metrics.items() if isinstance(other, int | float))
                raise UserError(f"{WHERE}.save_best={wanted!r}: the validation gives no such number; it gives {names}")
            sign = 1 if self._rule(key, self._rules[wanted]) == "greater" else -1
            best = self.found.get(key)
            if not math.isnan(value) and (best is None or sign * value > sign * best[0]):
                better[key] = float(value)
        return better

    def state(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        return {key: [score, name] for key, (score, name) in self.found.items()}

    def load(self, state: Mapping[str, Any], where: str) -> None:
        """Take over what :meth:`state` returned; raise ``UserError`` where it is something else."""
        try:
            found = {str(key): (float(score), str(name)) for key, (score, name) in dict(state).items()}
        except (TypeError, ValueError):
            problem = f"{where}: what it says of the best checkpoint is damaged"
            raise UserError(f"{problem}; start from it with load_from") from None
        self.found = {key: value for key, value in found.items() if self.keys == ["auto"] or key in self.keys}

    def forget_missing(self, folder: Path) -> list[str]:
        """Drop scores whose file is gone, and return their names: the next validation is the best then."""
        gone = [key for key, (_, name) in self.found.items() if not (folder / name).is_file()]
        return [self.found.pop(key)[1] for key in gone]

    def remove_others(self, folder: Path, number: int) -> None:
        """Remove files of the same metrics up to ``number`` that are not the best."""
        kept = {name for _, name in self.found.values()}
        for key in self.found:
            pattern = re.compile(re.escape(f"best_{_safe(key)}_") + r"(epoch|iter)_(\d+)\.pth")
            for path in folder.glob("best_*.pth"):
                match = pattern.fullmatch(path.name)
                if match and int(match[2]) <= number and path.name not in kept:
                    path.unlink()

    def _rule(self, key: str, given: str | None) -> str:
        """mmengine's: by the whole name, then by a part of it."""
        if given is not None:
            return given
        name = key.lower()
        for names, rule in ((self._greater, "greater"), (self._less, "less")):
            if name in {other.lower() for other in names}:
                return rule
        for names, rule in ((self._greater, "greater"), (self._less, "less")):
            if any(other.lower() in name for other in names):
                return rule
        raise UserError(f"{WHERE}.save_best={key!r}: is more or less of it better? give rule='greater' or 'less'")


def file_name(key: str, kind: str, number: int) -> str:
    """Name of the best checkpoint by a metric, as mmengine's: ``best_accuracy_top1_epoch_3.pth``."""
    return f"best_{_safe(key)}_{kind}_{number}.pth"


def _safe(key: str) -> str:
    return key.replace("/", "_")


def _texts(name: str, value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values or not all(isinstance(one, str) and one for one in values):
        raise UserError(f"{WHERE}.{name}={value!r}: give a name, or a list of names")
    return list(values)
