"""The full network with what a subnet drops zeroed, found op by op: an answer to check subnets against.

Nothing here uses mmrazor_lite. Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Places = dict[str, Tensor]  # parameter or buffer -> for every element of the export, its place in the flat full tensor

# activations that do not map zero to zero, and those that may give zero where something was
ACTIVATIONS = frozenset(
    "relu hardtanh hardswish hardsigmoid sigmoid silu gelu elu softplus exp tanh leaky_relu clamp clamp_min celu selu "
    "mish rsub reciprocal rsqrt cos log threshold "
    "add sub".split()  # the last two with a number, or with a tensor made of parameters alone
)
NORMS = frozenset("native_batch_norm native_layer_norm native_group_norm".split())


class _DeadStaysDead(TorchDispatchMode):
    """Zeroes what was zero before it after every norm, activation and grouped conv, and after a bias is added.

    Layer norms, group norms, softmax and means leave dropped elements out.

    Three runs: with nothing zeroed, to see what is zero anyway, such as padding; with the producers zeroed, to find
    what is dropped; and the real one, which uses what the second found. In the first two no activation gives zero by
    chance.

    Args:
        model: the full network; what is computed of its parameters and buffers alone is never dropped.
        weights: parameter -> mask of the elements that the subnet holds, for weights that are normalised.
        before: the run before this one.
    """

    def __init__(
        self, model: nn.Module, weights: Mapping[Tensor, Tensor], before: _DeadStaysDead | None = None
    ) -> None:
        super().__init__()
        self.run = 0 if before is None else before.run + 1
        self.probing = self.run < 2
        self.found: list[Tensor] = []  # for each op in turn, where its input is not dropped
        self._before = before.found if before is not None else []
        self._constants = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
        self._held: list[Tensor] = []  # keeps derived constants alive, so that no other tensor takes their place
        self._weights = {weight.untyped_storage().data_ptr(): mask for weight, mask in weights.items()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        plain = name.rstrip("_")
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if all(self._is_constant(tensor) for tensor in inputs):
            return self._of_constants(func, plain, args, kwargs)
        if name.endswith("_"):
            self._constants.discard(inputs[0].untyped_storage().data_ptr())
        if plain in NORMS:
            return self._norm(func, plain, args)
        if name == "convolution" and args[0].dim() == 3 and args[1].shape[:2] == (1, 1):  # it may run along channels
            alive = self._alive(args[0], [2])
            index = alive.reshape(-1).nonzero().reshape(-1)
            if len(index) < alive.numel():
                return torch.zeros_like(args[0]).index_copy_(2, index, func(args[0][..., index], *args[1:]))
            return func(*args, **kwargs)
        if name == "convolution" and args[8] > 1:
            groups = self._alive(args[0], [1]).view(args[8], -1).any(1)
            outputs = args[1].shape[1] if args[6] else args[1].shape[0] // args[8]  # of a group
            alive = groups.repeat_interleave(outputs).view(-1, *[1] * (args[1].dim() - 2))
            return func(*args, **kwargs) * alive
        if plain == "mean" and len(args) > 1 and args[1]:
            return self._mean(func, args, kwargs)
        if plain == "_softmax":
            alive = self._alive(args[0])
            result = func(args[0].masked_fill(~alive, -torch.inf), *args[1:]).nan_to_num(0.0)
            return self._nowhere_zero(result, args[0], alive)
        flowing = [tensor for tensor in inputs if not self._is_constant(tensor)]
        if plain in ("addcmul", "lerp") or (plain in ACTIVATIONS and len(inputs) > 1):
            if len(flowing) != 1 and plain != "addcmul":
                return func(*args, **kwargs)
            alive = self._alive(flowing[-1])
            result = func(*args, **kwargs)
            return self._masked(name, result, alive.expand(result.shape))
        if plain == "clamp_min" and 0 < args[1] < 1e-5:  # the eps of a division, of a norm that may well be zero
            return func(*args, **kwargs)
        if plain in ACTIVATIONS:
            alive = self._alive(args[0])
            before = args[0].clone()
            result = func(*args, **kwargs)
            masked = self._nowhere_zero(result, before, alive)
            return result.copy_(masked) if name.endswith("_") else masked
        return func(*args, **kwargs)

    def _is_constant(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._constants

    def _of_constants(self, func: Callable, name: str, args: tuple, kwargs: dict) -> object:
        """Parameters reshaped, looked up or normalised; a normalised weight leaves out what the subnet drops."""
        mask = None
        if name == "native_batch_norm" and self.run:  # in the first run nothing is dropped
            mask = self._weights.get(args[0].untyped_storage().data_ptr())
        if mask is None or bool(mask.all()):
            result = func(*args, **kwargs)
        else:
            dims = [d for d in range(args[0].dim()) if d != 1]
            shape = [1, -1] + [1] * (args[0].dim() - 2)
            affine = [p if p is None else p.view(shape) for p in args[1:3]]
            result = (_normalised(args[0], mask.view(args[0].shape), dims, args[7], *affine), None, None)
        for tensor in (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            self._constants.add(tensor.untyped_storage().data_ptr())
            self._held.append(tensor)
        return result

    def _alive(self, x: Tensor, keep: list[int] | None = None) -> Tensor:
        """Where ``x`` is not dropped: elementwise, or one answer for all of a channel where ``keep`` names dims."""
        known = self._before[len(self.found)] if self.run else None
        alive = known
        if self.probing:
            alive = x != 0
            for dim in range(x.dim()) if keep is not None else ():
                if dim not in keep:
                    alive = alive.any(dim, keepdim=True)
            alive = alive if known is None else alive | ~known
        self.found.append(alive)
        return alive if self.run else torch.ones_like(alive)

    def _nowhere_zero(self, result: Tensor, before: Tensor, alive: Tensor) -> Tensor:
        """Zero where it was zero; in the first run nowhere else."""
        if self.probing:
            result = torch.where(result == 0, 0.01 * before, result)
        return torch.where(alive, result, torch.zeros_like(result))

    @staticmethod
    def _masked(name: str, result: Tensor, alive: Tensor) -> Tensor:
        return result.mul_(alive) if name.endswith("_") else result * alive

    def _norm(self, func: Callable, name: str, args: tuple) -> tuple:
        x = args[0]
        if name == "native_layer_norm":
            dims = list(range(x.dim() - len(args[1]), x.dim()))
            alive = self._alive(x, dims)
            if bool(alive.all()):
                return func(*args)
            return _normalised(x, alive, dims, args[4], *args[2:4]), None, None
        alive = self._alive(x, [1])
        if name == "native_group_norm" and not bool(alive.all()):
            c, groups = x.shape[1], args[6]
            parts = [tensor.reshape(tensor.shape[0], groups, c // groups, -1) for tensor in (x, alive)]
            shape = (1, c, *[1] * (x.dim() - 2))
            result = _normalised(*parts, [2, 3], args[7]).view(x.shape)
            weight, bias = (None if p is None else p.view(shape) for p in args[1:3])
            result = result if weight is None else result * weight
            return (result if bias is None else result + bias) * alive, None, None
        result = func(*args)
        return (result[0] * alive, *result[1:])

    def _mean(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        dims = [dim % args[0].dim() for dim in args[1]]
        alive = self._alive(args[0], dims)
        share = alive.double().mean(dims).reshape(-1)[0].clamp(min=1e-30)
        return func(*args, **kwargs) / share


def _normalised(
    x: Tensor, alive: Tensor, dims: list[int], eps: float, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """A norm over ``dims`` whose statistics are those of the elements that are alive; zero elsewhere."""
    alive = alive.expand(x.shape)
    count = alive.sum(dims, keepdim=True).clamp(min=1)
    mean = torch.where(alive, x, 0.0).sum(dims, keepdim=True) / count
    centred = torch.where(alive, x - mean, 0.0)
    result = centred / (centred.square().sum(dims, keepdim=True) / count + eps).sqrt()
    result = result if weight is None else result * weight
    result = result if bias is None else result + bias
    return torch.where(alive, result, 0.0).contiguous()  # as the norm itself: later ops must be the same in every run


@contextmanager
def _scaled_by_fan_in(conv: nn.Module, held: Tensor) -> Iterator[None]:
    """Give a conv of timm's with a scale of gamma / sqrt(fan in) the one of the inputs of which ``held`` has some."""
    inputs = held.view(conv.weight.shape).any(0).flatten(1).any(1)
    before = conv.scale
    conv.scale = before * (len(inputs) / max(1, int(inputs.sum()))) ** 0.5
    try:
        yield
    finally:
        conv.scale = before


@contextmanager
def _rows_zeroed(layer: nn.Module, mask: Tensor) -> Iterator[None]:
    """Zero the rows of a conv, linear or attention input that ``mask`` (C,) leaves out, and put them back."""
    names = ("in_proj_weight", "in_proj_bias") if isinstance(layer, nn.MultiheadAttention) else ("weight", "bias")
    tensors = [tensor for name in names if (tensor := getattr(layer, name)) is not None]
    if getattr(layer, "transposed", False):
        tensors[0] = tensors[0].transpose(0, 1)
    rows = [tensor[~mask] for tensor in tensors]
    for tensor in tensors:
        tensor[~mask] = 0
    try:
        yield
    finally:
        for tensor, values in zip(tensors, rows, strict=True):
            tensor[~mask] = values


def zeroed(plain: nn.Module, masks: Mapping[str, Tensor], where: Places, images: Tensor) -> object:
    """Output of the full network with every dropped channel zeroed after each producer, norm and activation.

    Only the rows of a producer's weight are taken from the export; which columns belong to them shows in the output.
    """
    weights = {}
    for name, parameter in plain.named_parameters():
        weights[parameter] = torch.zeros(parameter.numel(), dtype=torch.bool)
        weights[parameter][where[name].reshape(-1)] = True
    with torch.no_grad(), ExitStack() as stack:
        plain.eval()
        with _DeadStaysDead(plain, weights) as probe:
            plain(images)
        for module in plain.modules():
            if type(module).__name__.startswith("ScaledStdConv"):
                stack.enter_context(_scaled_by_fan_in(module, weights[module.weight]))
        for name, mask in masks.items():
            if not bool(mask.all()):
                stack.enter_context(_rows_zeroed(plain.get_submodule(name), mask))
        with _DeadStaysDead(plain, weights, probe) as probe:
            plain(images)
        stack.enter_context(_DeadStaysDead(plain, weights, probe))
        return plain(images)
