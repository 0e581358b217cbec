"""What every algorithm shares: an architecture, a mutator, and the one training step."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn import functional

from mmrazor_lite.errors import DivergedError, UserError
from mmrazor_lite.lost import lost_process
from mmrazor_lite.models.algorithms.construct import build_architecture, build_part, plain_config
from mmrazor_lite.models.algorithms.identity import FIX_SUBNET, RESOLUTION, CheckpointIdentity
from mmrazor_lite.models.algorithms.loading import Whole, load_pretrained
from mmrazor_lite.models.algorithms.memory_order import lay
from mmrazor_lite.models.algorithms.preprocessing import preprocessing
from mmrazor_lite.models.algorithms.pretrained import has_pretrained, take_pretrained
from mmrazor_lite.models.classifiers import PlainClassifier, check_sizes, main_logits, offline
from mmrazor_lite.models.said import check_computation, check_resources
from mmrazor_lite.randomness import seed_all
from mmrazor_lite.registry import MUTATORS
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import Subnet


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of a training step.

    Attributes:
        subnet: What is active; None runs the network as it is.
        label: Weight of the loss against the labels; 0 skips it.
        soft: Weight of the distillation loss; 0 skips it.
        teacher: Where the soft labels come from: ``'max'`` is the detached output of this step's pass of
            :attr:`Algorithm.largest`, which runs first, ``'frozen'`` what :meth:`Algorithm.teacher_outputs` gives.
        name: Prefix in the log, such as ``max_subnet``; empty for none.
    """

    subnet: Subnet | None
    label: float = 1.0
    soft: float = 0.0
    teacher: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.teacher not in (None, "max", "frozen") or (self.soft and self.teacher is None):
            raise UserError(f"Pass(soft={self.soft}, teacher={self.teacher!r}): soft labels are of 'max' or 'frozen'")


class Algorithm(BaseModel):
    """An architecture, the mutator that makes it searchable, and the rule for one training step.

    A subclass says in :meth:`passes` which subnets one step trains and how; the step itself is written here, once. It
    sets ``search_space`` and ``cost_model``; ``kind`` and ``subnets`` too, where it is no supernet.

    Args:
        architecture: Config of a plain model, or the model: see :func:`build_architecture`. What has no losses of its
            own gets a ``PlainClassifier`` around it.
        mutator: Config of a mutator, or the mutator.
        data_preprocessor: Config of the preprocessor; by default the one of the architecture.
        input_shape: (C, H, W) of one image, (C, T, H, W) of one clip, for tracing and for costs.
        init_cfg: mmengine's initialisation; ``type='Pretrained'`` reads the file safely and strictly.
    """

    seed: int = 0
    channels_last: bool = False
    data: dict[str, Any] | None = None  # which images the weights were trained on, as checkpoints carry it
    kinds: frozenset[str] = frozenset({"supernet"})  # what the class can be, see CheckpointIdentity; ``kind`` is one
    kind: str = "supernet"
    subnet_option: str = FIX_SUBNET  # what in the config says the subnet, for errors
    any_outputs: bool = False  # whether the distiller compares whatever networks give, and not one tensor of logits
    prepared_otherwise: str | None = None  # what a loaded file says about its images, where that is not as here
    _computation: dict[str, Any] | None = None
    _told_size = False

    def __init__(
        self,
        architecture: Mapping | nn.Module,
        mutator: Any,
        data_preprocessor: Mapping | nn.Module | None = None,
        input_shape: Sequence[int] = (3, 224, 224),
        init_cfg: Any = None,
    ) -> None:
        input_shape = image_shape(input_shape, "model.input_shape")
        built = build_architecture(architecture, data_preprocessor)
        if isinstance(built, PlainClassifier):
            check_sizes(built, input_shape)
        super().__init__(getattr(built, "data_preprocessor", data_preprocessor), init_cfg)
        self.architecture = built
        self.distiller: nn.Module | None = None
        self.mutator = build_part(MUTATORS, mutator, "algorithm.mutator")
        self.input_shape = input_shape
        self.subnets: list[Subnet] = []
        self._whole: Whole | None = None
        self.config = {
            "architecture": plain_config(architecture) if isinstance(architecture, Mapping) else None,
            "mutator": plain_config(mutator) if isinstance(mutator, Mapping) else None,
            "data_preprocessor": plain_config(data_preprocessor) if isinstance(data_preprocessor, Mapping) else None,
            "input_shape": list(self.input_shape),
        }

    @abstractmethod
    def passes(self, step: int) -> list[Pass]:
        """Return what step number ``step`` trains; the same list on every rank and in a resumed run."""

    @cached_property
    def identity(self) -> CheckpointIdentity:
        """What a checkpoint of this algorithm holds."""
        resources = [self.cost_model.of(subnet) for subnet in self.subnets]
        return CheckpointIdentity(self.kind, self.search_space, self.subnets, resources, self.subnet_option)

    @abstractmethod
    def named_subnets(self) -> dict[str, Subnet]:
        """Return the subnets that validation and resource reports show, by the prefix of their metrics."""

    def before_first_step(self) -> None:
        """Do what has to be done once, before the first step of a run that does not resume; equal on every rank."""

    def regularised(self, item: Pass) -> AbstractContextManager:
        """Return the context of one pass of a training step: what regularises this pass alone is on inside."""
        return nullcontext()

    def teacher_outputs(self, batch: Any, subnet: Subnet | None) -> Any:
        """Return what a frozen network gives for a batch, as ``subnet`` would see it: soft labels (N, classes).

        With :attr:`any_outputs`, whatever the network gives.
        """
        raise NotImplementedError(f"{type(self).__name__} has no frozen teacher")

    @property
    def resolution(self) -> int | None:
        """Height and width of the images that the active subnet is meant for; None where it is no choice."""
        if self.kind == "subnet":
            return self.subnets[0].get("resolution")
        return getattr(self.mutator, "resolution", None)

    @property
    def computation(self) -> dict[str, Any] | None:
        """What the network computes, all of its subnets together: see :mod:`mmrazor_lite.graph.computation`."""
        return self._computation if self.mutator is None else getattr(self.mutator, "computation", None)

    @property
    def logits_module(self) -> nn.Module:
        """The module whose output are the logits, also while the loss is computed."""
        return getattr(self.architecture, "head", None) or self.architecture

    def rng(self, step: int, k: int) -> np.random.Generator:
        """Return the generator of the k-th random subnet of a step: equal on all ranks, whatever else was drawn."""
        return np.random.default_rng([self.seed, step, k])

    @property
    def narrowest(self) -> dict[str, int]:
        """The narrowest width of each width choice that a supernet trains."""
        return {name: choice.candidates[0] for name, choice in self.search_space.items() if choice.kind == "width"}

    @property
    def largest(self) -> Subnet:
        """The max subnet of the training, whose output is the teacher ``'max'``."""
        return self.search_space.max()

    def check_trained(self, meta: Mapping[str, Any] | None, where: str = "checkpoint") -> None:
        """Raise ``UserError`` when a search would offer what the run that wrote ``meta['mmrazor_lite']`` never trained.

        Those are widths below the narrowest: their batch norms and what they score mean nothing. Training on from a
        checkpoint may offer anything.
        """
        trained = (meta or {}).get("narrowest")
        for name, choice in self.search_space.items() if isinstance(trained, Mapping) else ():
            least, lowest = trained.get(name, 0), choice.candidates[0]
            if choice.kind == "width" and isinstance(least, int) and lowest < least:
                raise UserError(
                    f"{where} was trained with widths of {least} and more of '{name}', this would try {lowest}: give "
                    "the widths of the training (candidate_choices of model.mutator, or those that the backbone offers)"
                )

    def checkpoint_meta(self) -> dict[str, Any]:
        """Return what goes into ``checkpoint['meta']['mmrazor_lite']``: plain data."""
        told = {} if self.computation is None else {"computation": self.computation}
        told |= {} if self.data is None else {"data": self.data}
        told |= {"narrowest": self.narrowest} if self.kind == "supernet" and self.narrowest else {}
        told |= {"channels_last": self.channels_last}
        meta = {**self.identity.to_dict(), **self.config, "architecture": offline(self.config["architecture"]), **told}
        return {**meta, "preprocessing": preprocessing(self.data_preprocessor)}

    def check_meta(self, meta: Mapping[str, Any] | None, where: str = "checkpoint") -> None:
        """Raise ``UserError`` when a checkpoint with this ``meta['mmrazor_lite']`` holds something else."""
        if meta:
            self.identity.check(meta, where)

    def check_resumed(self, meta: Mapping[str, Any] | None, where: str = "checkpoint") -> None:
        """Raise ``UserError`` when a training cannot go on from a checkpoint with this ``meta['mmrazor_lite']``."""

    def check_network(self, meta: Mapping[str, Any], where: str = "checkpoint", reset_head: bool = False) -> None:
        """Raise ``UserError`` when ``meta['mmrazor_lite']`` says that the network computes or costs something else.

        With ``reset_head`` it may be of another number of classes, and its costs then say nothing.
        """
        check_computation(meta.get("computation"), self.computation, where, other_classes=reset_head)
        if self.kind == "subnet" and not reset_head:
            counted_at, own_shape = meta.get("input_shape"), self.config["input_shape"]
            check_resources(meta.get("resources"), self.identity.resources[0], where, counted_at, own_shape)

    def resources(self) -> dict[str, dict[str, int]]:
        """Return macs, flops, params and memory (unscaled) of each of :meth:`named_subnets`; or of ``subnet``."""
        named = {"subnet": self.subnets[0]} if self.kind == "subnet" else self.named_subnets()
        return {name: self.cost_model.of(subnet) for name, subnet in named.items()}

    def use_channels_last(self, use: bool = True) -> None:
        """Keep weights and images with the channels innermost in memory, or no longer.

        That is faster on most CPUs and on tensor cores. What is computed differs in its last bits.
        """
        self.channels_last = use
        lay(self, use)

    def init_weights(self) -> None:
        """Initialise the weights, then load what ``type='Pretrained'`` entries name, safely and strictly.

        A seed gives the same weights in every memory format: random numbers fill a tensor in the order of its memory,
        so they are drawn in the contiguous one. Of one subnet, a file may be of the full width: it gets its part of it.
        """
        pretrained = take_pretrained(self)
        if self.channels_last:
            lay(self, channels_last=False)
        super().init_weights()
        names = {module: name for name, module in self.architecture.named_modules()}
        for module, config in pretrained:
            load_pretrained(module, config, self.computation, names.get(module), self._whole)
        self._whole = None
        if self.channels_last:
            lay(self, channels_last=True)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor") -> Any:
        """Run the active subnet on ``inputs`` (N, C, H, W); see mmengine's BaseModel for the modes.

        Images of another size than the subnet is meant for are resized to it.
        """
        if not self._told_size:
            self._tell_size(inputs)
        inputs = resized(inputs, self.resolution)
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        outputs = self.architecture(inputs, data_samples, mode=mode)
        # Not in the classifier: tracing must see the auxiliary logits, DDP must not wait for their gradients.
        is_plain = mode == "tensor" and isinstance(self.architecture, PlainClassifier)
        return main_logits(outputs) if is_plain else outputs

    def other_size(self, images: Tensor) -> str | None:
        """What to say where images (N, C, H, W) are of another size than costs are counted at; they run all the same.

        Where the subnet says its resolution, images are resized to it.
        """
        size, counted = tuple(images.shape[-2:]), tuple(self.input_shape[-2:])
        if self.resolution is not None or images.dim() != 4 or size == counted:
            return None
        sizes = [" x ".join(map(str, item)) for item in (size, counted)]
        return f"images of {sizes[0]} arrive, costs are counted for input_shape {sizes[1]}"

    def _tell_size(self, images: Tensor) -> None:
        found = self.other_size(images)
        if found:
            self._told_size = True
            print_log(f"{found}: set model.input_shape as they are", logger="current", level=logging.WARNING)

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapper, forward: Callable | None = None
    ) -> dict[str, Tensor]:
        """Train on one batch: every pass forward and backward, gradients summed, then at most one update.

        What the step draws at random (dropout, mixup, subnets) depends on the seed, the step and the rank only.

        Args:
            data: One batch of the data loader.
            optim_wrapper: A ``SubnetOptimWrapper``; its ``batch_index`` is the step.
            forward: What runs the forward pass; the DDP wrapper around this algorithm, or by default the algorithm.

        Returns:
            ``loss``, the sum that was backpropagated, and the losses of every pass under its name. Detached.

        Raises:
            DivergedError: The loss of a pass is not finite on some rank; nothing was updated.
        """
        forward = forward or self
        step = optim_wrapper.batch_index
        if step == 0:
            self.before_first_step()
        seed_all(self.seed, step, get_rank())
        batch = self.data_preprocessor(data, training=True)
        passes, losses, log = self._gradients(batch, optim_wrapper, forward, step)
        self._check_finite(passes, losses, step)
        optim_wrapper.end_batch()
        if passes[0].subnet is not None:
            self.mutator.activate(passes[0].subnet)  # a plain validation loop evaluates this one
        return {"loss": torch.stack(losses).sum(), **log}

    def trial_batch(self, data: Any) -> Any:
        """Return the images of a batch of the data loader as a step reads them, for :meth:`trial_step`."""
        return self.data_preprocessor(data, training=True)

    def trial_step(self, batch: Any, optim_wrapper: OptimWrapper) -> Tensor:
        """Do what a training step does, up to its update: for a trial of how fast that is.

        Gradients stay where they are, and the caller puts back what else moves: statistics, the active subnet.
        An algorithm with a ``train_step`` of its own has this of its own too; without, nothing is tried.

        Args:
            batch: Of :meth:`trial_batch`.
            optim_wrapper: As for :meth:`train_step`.

        Returns:
            The loss, detached.
        """
        step = optim_wrapper.batch_index
        seed_all(self.seed, step, get_rank())
        _, losses, _ = self._gradients(batch, optim_wrapper, self, step)
        return torch.stack(losses).sum()

    def _gradients(
        self, batch: Any, optim_wrapper: OptimWrapper, forward: Callable, step: int
    ) -> tuple[list[Pass], list[Tensor], dict[str, Tensor]]:
        """Run all passes of a step forward and backward; return them, their losses, and what is for the log."""
        passes = self._max_first(self.passes(step))
        losses: list[Tensor] = []
        log: dict[str, Tensor] = {}
        soft: dict[str | None, Any] = {}
        if any(item.teacher == "frozen" for item in passes):
            soft["frozen"] = self.teacher_outputs(batch, passes[0].subnet)
        for item in passes:
            if item.subnet is not None:
                self.mutator.activate(item.subnet)
            with self.regularised(item), optim_wrapper.pass_context(forward, last=item is passes[-1]):
                with optim_wrapper.forward_context():
                    loss, entries, logits = self._run_pass(forward, batch, item, soft.get(item.teacher))
                self._backward(optim_wrapper, loss, item, step)
            soft.setdefault("max", logits)  # of the first pass
            losses.append(loss.detach())
            log.update({f"{item.name}.{key}" if item.name else key: value for key, value in entries.items()})
        return passes, losses, log

    def _max_first(self, passes: list[Pass]) -> list[Pass]:
        """The passes, that of the max subnet first where others learn from it.

        Raises:
            UserError: There is none, or it learns from itself.
        """
        if not any(item.teacher == "max" for item in passes):
            return passes
        largest = {name: value for name, value in self.largest.items() if name != RESOLUTION}
        teachers = (item for item in passes if item.teacher != "max" and item.subnet)
        first = next((item for item in teachers if largest.items() <= item.subnet.items()), None)
        if first is None:
            raise UserError(
                f"{type(self).__name__}.passes(): teacher='max' needs a pass of the max subnet, "
                "Pass(self.largest), that learns from something else"
            )
        return [first, *(item for item in passes if item is not first)]

    def _backward(self, optim_wrapper: OptimWrapper, loss: Tensor, item: Pass, step: int) -> None:
        """Backpropagate; what torch refuses of the network's own code is told as such."""
        try:
            optim_wrapper.backward(optim_wrapper.scale_loss(loss))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # Gradients are summed over the processes in here: that another one is gone is no fault of the network.
            if lost_process(error):
                raise
            reason = " ".join(str(error).split()).partition(" Hint: ")[0]
            raise UserError(
                f"step {step}: {type(self.architecture).__name__} runs forward, but the backward pass of "
                f"{item.name or 'the network'} fails: {reason[:300]}; mend the code of the network"
            ) from error

    def _become_static(self, subnet: Subnet) -> None:
        """Become the plain network of ``subnet``, with its part of the weights."""
        self.kind, self.subnets = "subnet", [subnet]
        self._computation = self.computation
        self._whole = Whole(self.architecture, self.mutator, subnet) if has_pretrained(self) else None
        self.architecture = self.mutator.export(subnet)
        if "resolution" in subnet:
            self.input_shape = (self.input_shape[0], subnet["resolution"], subnet["resolution"])
        self.mutator = None  # nothing is searchable any more, and it holds the weights of the full network
        if isinstance(getattr(self.architecture, "data_preprocessor", None), nn.Module):
            self.data_preprocessor = self.architecture.data_preprocessor

    def _run_pass(
        self, forward: Callable, batch: Any, item: Pass, teacher: Any
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return the loss of one pass, its parts for the log, and its detached logits."""
        total: Tensor | float = 0.0
        entries: dict[str, Tensor] = {}
        if item.label:
            with self._logits() as captured:
                hard, parts = self.parse_losses(call(forward, batch, mode="loss"))
            if not isinstance(hard, Tensor):
                names = [key for key in parts if key != "loss"]
                raise UserError(
                    f"{type(self.architecture).__name__}: its loss() gives {names}, and what is trained are the "
                    "entries with 'loss' in their names; name one of them so"
                )
            total = total + item.label * hard
            entries = {key: value.detach() for key, value in parts.items()}
            logits = captured[-1] if captured else None
        else:
            logits = call(forward, batch, mode="tensor")
        if item.soft:
            if not (self.any_outputs or (isinstance(logits, Tensor) and isinstance(teacher, Tensor))):
                raise UserError(
                    f"{type(self.logits_module).__name__} gives no single tensor of logits; distillation needs a head "
                    "whose forward() returns them, such as mmpretrain's LinearClsHead"
                )
            soft = self.distiller(logits, teacher)
            total = total + item.soft * soft
            if item.label:
                entries["soft_loss"] = soft.detach()
        entries["loss"] = total.detach()
        return total, entries, logits.detach() if isinstance(logits, Tensor) else None

    @contextmanager
    def _logits(self) -> Iterator[list]:
        """Collect what the logits module returns inside the block: heads call themselves within ``loss()``."""
        captured: list = []
        handle = self.logits_module.register_forward_hook(lambda module, args, output: captured.append(output))
        try:
            yield captured
        finally:
            handle.remove()

    def _check_finite(self, passes: Sequence[Pass], losses: Sequence[Tensor], step: int) -> None:
        """Stop on every rank before weights are touched; the one host sync of a step, after its last backward."""
        bad = (~torch.isfinite(torch.stack(list(losses)))).to(torch.float32)
        all_reduce(bad, "max")
        flags = bad.tolist()
        if any(flags):
            k = flags.index(1.0)
            name = passes[k].name or "the network"
            raise DivergedError(
                f"step {step}: the loss of {name} is {losses[k].item()}; training stopped before the update and the "
                "checkpoints are kept; lower optim_wrapper.optimizer.lr or set optim_wrapper.clip_grad, then --resume"
            )


def resized(images: Tensor, size: int | None) -> Tensor:
    """Images (N, C, H, W) as (N, C, size, size), smoothed where they shrink; as they are where size is None."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def inputs_of(batch: Any) -> Tensor:
    """The images (N, C, H, W) of a batch."""
    return batch["inputs"] if isinstance(batch, Mapping) else batch[0]


def call(forward: Callable, batch: Any, mode: str) -> Any:
    return forward(**batch, mode=mode) if isinstance(batch, Mapping) else forward(*batch, mode=mode)
