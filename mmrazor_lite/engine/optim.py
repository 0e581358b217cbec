"""Optimizer wrappers for steps with several backward passes: one batch, one update.

mmengine's wrapper counts every ``backward`` and may step after each of them. These count batches: the losses of all
passes of a batch are scaled by ``accumulative_counts`` alone, their gradients sum, and clipping, unscaling and the
optimizer step happen once, in :meth:`SubnetOptimWrapper.end_batch`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmrazor_lite.engine import half_precision
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import OPTIM_WRAPPERS

PRECISION = "amp_dtype"  # in the state of an optimizer wrapper


@OPTIM_WRAPPERS.register_module()
class SubnetOptimWrapper(OptimWrapper):
    """Optimizer wrapper that counts batches, however many backward passes each of them takes.

    Args:
        optimizer: The torch optimizer.
        accumulative_counts: Batches per update.
        clip_grad: Arguments of ``torch.nn.utils.clip_grad_norm_``, or of ``clip_grad_value_`` with ``type='value'``.
    """

    is_half: bool = False  # whether forward passes compute in 16 bits

    def __init__(
        self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1, clip_grad: dict | None = None
    ) -> None:
        super().__init__(optimizer, accumulative_counts, clip_grad)
        # A group for each parameter, as mmengine makes them, whose items are looked up in Python, twenty times a step.
        optimizer.param_groups[:] = [dict(group) for group in optimizer.param_groups]

    @property
    def batch_index(self) -> int:
        """Batches that ended so far; after a resume it goes on from the checkpoint."""
        return self._inner_count

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:
        """One batch with one pass, as mmengine's models call it."""
        self.backward(self.scale_loss(loss))
        self.end_batch(**(step_kwargs or {}))

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Add the gradients of ``loss``; what ends the batch is :meth:`end_batch`."""
        loss.backward(**kwargs)

    def end_batch(self, **kwargs: Any) -> None:
        """Count one batch, and update the parameters when ``accumulative_counts`` of them are complete."""
        self._inner_count += 1
        if self.should_update():
            self.step(**kwargs)
            self.zero_grad()

    def zero_grad(self, **kwargs: Any) -> None:
        """Drop the gradients: with ``None``, momentum and weight decay leave the weights alone that no pass used."""
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def pass_context(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Context of one forward and backward pass: only the last one before an update reduces gradients.

        Args:
            model: What runs the forward pass; a ``DistributedDataParallel`` module reduces gradients over processes.
            last: Whether this is the last pass of the batch.
        """
        if hasattr(model, "no_sync") and not (last and self.should_sync()):
            with model.no_sync():
                yield
        else:
            yield

    def forward_context(self) -> AbstractContextManager:
        """Context of the forward pass and the losses."""
        return nullcontext()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of a batch with one pass, as mmengine's models enter it."""
        with self.pass_context(model, last=True), self.forward_context():
            yield


@OPTIM_WRAPPERS.register_module()
class SubnetAmpOptimWrapper(SubnetOptimWrapper):
    """Mixed-precision form of the optimizer wrapper that counts batches.

    Args:
        optimizer: The torch optimizer.
        loss_scale: ``'dynamic'``, a fixed factor, or the arguments of ``torch.amp.GradScaler``. For float16 only.
        dtype: ``'float16'`` or ``'bfloat16'``; by default that of the checkpoint that a run goes on from, and else
            bfloat16, but float16 on a GPU that computes no bfloat16.
        **kwargs: As for :class:`SubnetOptimWrapper`.
    """

    is_half = True

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        loss_scale: str | float | dict = "dynamic",
        dtype: str | torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, **kwargs)
        self.device_type = "cuda" if torch.cuda.is_available() else "cpu"
        self._is_chosen = dtype is not None
        scaler: dict[str, Any] = {}
        self._fixed_scale = None
        if isinstance(loss_scale, dict):
            scaler = dict(loss_scale)
        elif isinstance(loss_scale, (int, float)):
            scaler, self._fixed_scale = {"init_scale": float(loss_scale)}, float(loss_scale)
        elif loss_scale != "dynamic":
            raise UserError(f"optim_wrapper.loss_scale={loss_scale!r}: allowed are 'dynamic', a number or a dict")
        self._scaler_options = scaler
        self._use(self._check_dtype(dtype) if self._is_chosen else half_precision.best(self.device_type))

    def _use(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        enabled = dtype is torch.float16  # bfloat16 has the range of float32
        self.loss_scaler = torch.amp.GradScaler(self.device_type, enabled=enabled, **self._scaler_options)

    def _check_dtype(self, dtype: str | torch.dtype) -> torch.dtype:
        found = half_precision.DTYPES.get(dtype) if isinstance(dtype, str) else dtype
        allowed = half_precision.allowed(self.device_type)
        if found not in allowed.values():
            raise UserError(f"optim_wrapper.dtype={dtype!r}: allowed on {self.device_type} is {' or '.join(allowed)}")
        return found

    @property
    def precision(self) -> str:
        """The name of the type that forward passes compute in."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def is_slow(self) -> bool:
        """Whether this device computes in it slower than in float32."""
        return half_precision.is_emulated(self.device_type)

    def forward_context(self) -> AbstractContextManager:
        """Autocast of the forward pass and the losses; backward runs outside of it."""
        return torch.autocast(self.device_type, dtype=self.dtype)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Add the gradients of the scaled ``loss``."""
        self.loss_scaler.scale(loss).backward(**kwargs)

    def step(self, **kwargs: Any) -> None:
        """Unscale once, clip, update; an update with infinite gradients is skipped (float16)."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._fixed_scale)

    def state_dict(self) -> dict:
        """State of the optimizer and of the loss scaler, and the type computed in."""
        return {**super().state_dict(), "loss_scaler": self.loss_scaler.state_dict(), PRECISION: self.precision}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` returned; a checkpoint written without mixed precision fits too.

        Where the config says no type, the run goes on in that of the checkpoint, if this device has it.
        """
        state_dict = dict(state_dict)
        scaler = state_dict.pop("loss_scaler", None)
        before = "float16" if scaler else None  # of files that say no type, those of float16 have a scale
        dtype = half_precision.allowed(self.device_type).get(state_dict.pop(PRECISION, before))
        if dtype is not None and not self._is_chosen:
            self._use(dtype)
        if scaler and self.loss_scaler.is_enabled():
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)


def say_precision(optim_wrapper: Any, logger: logging.Logger) -> None:
    """Log what mixed precision came to: which type, and whether it pays on this device."""
    parts = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    mixed = [part for part in parts if isinstance(part, SubnetAmpOptimWrapper)]
    for precision in dict.fromkeys(part.precision for part in mixed):
        logger.info(f"mixed precision: forward passes compute in {precision}")
    if any(part.is_slow for part in mixed):
        logger.warning(
            "mixed precision: this CPU has no arithmetic for bfloat16 (avx512_bf16, amx_bf16), so steps take longer "
            "than in float32; leave out --amp here, or train on a GPU"
        )
