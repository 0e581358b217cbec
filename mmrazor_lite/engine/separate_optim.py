"""One optimizer for each of several parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapperDict
from torch import nn

from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import OPTIM_WRAPPER_CONSTRUCTORS


class SeparateOptimWrappers(OptimWrapperDict):
    """Optimizer wrappers by name, each of which is told where a resumed run goes on; mmengine's leaves that out."""

    def initialize_count_status(self, model: nn.Module, cur_iter: int, max_iters: int) -> None:
        """Tell each wrapper how many batches there were."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, cur_iter, max_iters)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SeparateOptimWrapperConstructor:
    """Builds one optimizer wrapper per module that the config names.

    Args:
        optim_wrapper_cfg: Name of a module of the model -> config of its optimizer wrapper, with ``paramwise_cfg``
            where wanted.
        paramwise_cfg: Not for all of them at once; ``None`` only.

    Raises:
        UserError: ``paramwise_cfg`` beside the names, no such module, or parameters that no entry trains.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping | None = None) -> None:
        if paramwise_cfg:
            raise UserError("optim_wrapper.paramwise_cfg: give it inside the entry of one module, such as architecture")
        self.configs = {name: config for name, config in optim_wrapper_cfg.items() if name != "type"}

    def __call__(self, model: nn.Module) -> SeparateOptimWrappers:
        """Build the wrappers of ``model``."""
        model = unwrapped(model)
        children = {name for name, child in model.named_children() if any(True for _ in child.parameters())}
        for name, config in self.configs.items():
            if not isinstance(config, Mapping) or "optimizer" not in config:
                raise UserError(f"optim_wrapper.{name} must be dict(optimizer=dict(type=...), ...), got {config!r}")
            if name not in children:
                raise UserError(
                    f"optim_wrapper.{name}: the model has no such part (allowed: {', '.join(sorted(children))})"
                )
        if left := sorted(children - set(self.configs)):
            raise UserError(
                f"optim_wrapper: nothing trains '{left[0]}'; add optim_wrapper.{left[0]}=dict(optimizer=...)"
            )
        return SeparateOptimWrappers(**{name: _build(model, name, config) for name, config in self.configs.items()})


def _build(model: nn.Module, name: str, config: Mapping[str, Any]) -> Any:
    config = dict(config)
    constructor = DefaultOptimWrapperConstructor(config, config.pop("paramwise_cfg", None))
    return constructor(model.get_submodule(name))
