"""What the networks in training cost."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.models.algorithms.base import Algorithm
from mmrazor_lite.registry import HOOKS

_UNITS = {"macs": ("M", 1e6), "flops": ("M", 1e6), "params": ("M", 1e6), "memory": ("MB", 1e6)}


@HOOKS.register_module()
class ResourceHook(Hook):
    """Logs macs, flops, params and memory of the largest and smallest subnet, or of each one retrained."""

    priority = "LOW"

    def before_train(self, runner: Runner) -> None:
        """Log the table, and the layers that stay at full width."""
        algorithm = unwrapped(runner.model)
        if not isinstance(algorithm, Algorithm):
            return
        lines = [f"{'':<12}" + "".join(f"{name:>14}" for name in _UNITS)]
        for name, cost in algorithm.resources().items():
            cells = (f"{cost[key] / scale:.3f} {unit}" for key, (unit, scale) in _UNITS.items())
            lines.append(f"{name:<12}" + "".join(f"{cell:>14}" for cell in cells))
        runner.logger.info("Resources of one image:\n" + "\n".join(lines))
        mutator = algorithm.mutator
        if mutator is not None:
            runner.logger.info(f"{algorithm.search_space!r}")
            fixed = "; ".join(f"{layer.layer} ({layer.reason})" for layer in mutator.fixed)
            runner.logger.info(f"Layers that stay at full width: {fixed or 'none'}")
