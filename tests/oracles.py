"""Independent answers to check the kernel against; nothing here uses mmrazor_lite's own tracing, masking or counting.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


def tensors(output: object) -> list[Tensor]:
    """The tensors of a model's output, in order, whatever they are wrapped in."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    return [tensor for item in output or () for tensor in tensors(item)]


def assert_same_bits(ours: object, theirs: object) -> None:
    pairs = list(zip(tensors(ours), tensors(theirs), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def assert_close(ours: object, theirs: object, relative: float = 1e-10) -> None:
    """max|a-b| <= relative * max|b| for every tensor."""
    pairs = list(zip(tensors(ours), tensors(theirs), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape
        assert torch.isfinite(b).all()
        assert (a - b).abs().max() <= relative * b.abs().max().clamp(min=1e-30), float((a - b).abs().max())


# what a subnet keeps --------------------------------------------------------------------------------------------

Places = dict[str, Tensor]  # parameter or buffer -> for every element of the export, its place in the flat full tensor


def places(mutator: object, subnet: Mapping[str, int], plain: nn.Module | None = None) -> Places:
    """Which elements of each tensor the export of ``subnet`` holds, found by exporting a model that holds numbers.

    The model is in float64, where numbers up to 2**53 are exact. It has its values again afterwards: those of
    ``plain``, or else a copy of its own.
    """
    model = mutator.architecture
    before = _tensors_of(copy.deepcopy(model) if plain is None else plain)
    with torch.no_grad():
        for tensor in _tensors_of(model).values():
            if tensor.is_floating_point():
                assert tensor.dtype == torch.float64
                tensor.copy_(torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape))
    try:
        exported = _tensors_of(mutator.export(subnet))
    finally:
        _restore(model, before)
    return {name: tensor.detach().long() for name, tensor in exported.items() if tensor.is_floating_point()}


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def _restore(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in _tensors_of(model).items():
            tensor.copy_(before[name])


def kept_channels(mutator: object, subnet: Mapping[str, int], where: Places | None = None) -> dict[str, Tensor]:
    """Producing layer -> mask (C,) of its output channels in the export.

    Where the mutator publishes the width of a layer, and no unit of several channels, they are the first ones.
    """
    where = where or places(mutator, subnet)
    full = dict(mutator.architecture.named_parameters())  # not by attribute: a dynamic layer shows its active part
    masks = {}
    for name, module in mutator.architecture.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and not getattr(module, "transposed", False):
            key = f"{name}.weight"
        elif isinstance(module, nn.MultiheadAttention):
            key = f"{name}.in_proj_weight"
        else:
            continue
        if key in where:  # not the second name of a shared one
            masks[name] = _rows(where[key], full[key])
    for mutable in mutator.mutables:
        for name in mutable.group.producers:
            width = mutator.search_space.layers.get(name)
            if width is not None and mutable.group.unit == 1:
                assert width.choice == mutable.name
                share = subnet[mutable.name] * width.full // mutable.group.full
                assert masks[name].tolist() == [True] * share + [False] * (width.full - share)
    return masks


def _rows(kept: Tensor, weight: Tensor) -> Tensor:
    """Mask over the first dimension of ``weight``: rows of which the export holds something."""
    mask = torch.zeros(weight.shape[0], dtype=torch.bool)
    mask[kept.reshape(-1) // weight[0].numel()] = True
    return mask


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

    A first run finds what is dropped: there no activation gives zero by chance. The second run is the real one and
    uses what the first one found.

    Args:
        model: the full network; what is computed of its parameters and buffers alone is never dropped.
        weights: parameter -> mask of the elements that the subnet holds, for weights that are normalised.
    """

    def __init__(self, model: nn.Module, weights: Mapping[Tensor, Tensor], found: list[Tensor] | None = None) -> None:
        super().__init__()
        self.probing = found is None
        self.found = found or []
        self._next = 0
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
        if name == "convolution" and args[8] > 1 and not args[6]:
            groups = self._alive(args[0], [1]).view(args[8], -1).any(1)
            alive = groups.repeat_interleave(args[1].shape[0] // args[8]).view(-1, *[1] * (args[1].dim() - 2))
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
        if name == "native_batch_norm":
            mask = self._weights.get(args[0].untyped_storage().data_ptr())
        if mask is None or bool(mask.all()):
            result = func(*args, **kwargs)
        else:
            dims = [d for d in range(args[0].dim()) if d != 1]
            shape = [1, -1] + [1] * (args[0].dim() - 2)
            affine = [p if p is None else p.view(shape) for p in args[1:3]]
            result = (_normalised(args[0], mask.view(args[0].shape), dims, args[7], *affine), None, None)
        for tensor in tensors(result):
            self._constants.add(tensor.untyped_storage().data_ptr())
            self._held.append(tensor)
        return result

    def _alive(self, x: Tensor, keep: list[int] | None = None) -> Tensor:
        """Where ``x`` is not dropped: elementwise, or one answer for all of a channel where ``keep`` names dims."""
        if self.probing:
            alive = x != 0
            for dim in range(x.dim()) if keep is not None else ():
                if dim not in keep:
                    alive = alive.any(dim, keepdim=True)
            self.found.append(alive)
            return alive
        self._next += 1
        return self.found[self._next - 1]

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
    return torch.where(alive, result if bias is None else result + bias, 0.0)


@contextmanager
def _rows_zeroed(layer: nn.Module, mask: Tensor) -> Iterator[None]:
    """Zero the rows of a conv, linear or attention input that ``mask`` (C,) leaves out, and put them back."""
    names = ("in_proj_weight", "in_proj_bias") if isinstance(layer, nn.MultiheadAttention) else ("weight", "bias")
    tensors = [tensor for name in names if (tensor := getattr(layer, name)) is not None]
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
        for name, mask in masks.items():
            if not bool(mask.all()):
                stack.enter_context(_rows_zeroed(plain.get_submodule(name), mask))
        with _DeadStaysDead(plain, weights) as probe:
            plain.eval()
            plain(images)
        stack.enter_context(_DeadStaysDead(plain, weights, probe.found))
        return plain(images)


# counts ---------------------------------------------------------------------------------------------------------


class _Extras(TorchDispatchMode):
    """What MMRazor's flops hold beside the macs: conv bias, 2 per norm element, 1 per ReLU element, pool inputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.total = 0
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name == "convolution" and args[2] is not None:
            self.total += result.numel()
        elif name in NORMS and args[0].untyped_storage().data_ptr() not in self._weights:  # of images, not of weights
            weight = args[2] if name == "native_layer_norm" else args[1]
            self.total += args[0].numel() * (1 if weight is None else 2)
        elif self._counts_once(name, args):
            self.total += args[0].numel()
        return result

    @staticmethod
    def _counts_once(name: str, args: tuple) -> bool:
        if name == "mean":  # a global average pool
            return args[0].dim() == 4 and len(args) > 1 and sorted(d % 4 for d in args[1]) == [2, 3]
        if name == "hardtanh":
            return args[1] == 0
        return "pool" in name or name in ("relu", "leaky_relu", "elu", "prelu", "_prelu_kernel")


def count(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """macs, flops and params of a plain module by running it once on one image."""
    model.eval()
    image = torch.zeros(1, *input_shape, dtype=next(model.parameters()).dtype)
    # with gradients: without them attention takes a short cut that the counter does not know
    with FlopCounterMode(display=False) as counter, _Extras(model) as extras:
        model(image)
    macs = counter.get_total_flops() // 2
    params = sum(parameter.numel() for parameter in model.parameters())
    return {"macs": macs, "flops": macs + extras.total, "params": params}


class _LiveBytes(fx.Interpreter):
    """Runs a graph, dropping each value after its last reader, and notes the most bytes that were alive at once."""

    peak = 0

    def run_node(self, node: fx.Node) -> object:
        result = super().run_node(node)
        if node.op == "call_function":
            inputs = {n: v for n, v in self.env.items() if n.op == "call_function" or n.name in self.images}
            storages = {
                tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                for value in [*inputs.values(), result]
                for tensor in tensors(value if isinstance(value, Tensor | list | tuple) else ())
            }
            self.peak = max(self.peak, sum(storages.values()))
        return result


def memory(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Bytes of the parameters and of the tensors alive at the worst moment of one image's forward pass."""
    model.eval()
    batch = 2
    images = torch.zeros(batch, *input_shape, dtype=next(model.parameters()).dtype)
    program = torch.export.export(model, (images,))
    runner = _LiveBytes(program.graph_module)
    runner.images = set(program.graph_signature.user_inputs)
    with torch.no_grad():
        values = dict(program.named_parameters()) | dict(program.named_buffers()) | dict(program.constants)
        names = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
        args = [images if names[n.name] is None else values[names[n.name]] for n in program.graph.nodes
                if n.op == "placeholder"]  # fmt: skip
        runner.run(*args, enable_io_processing=False)
    assert runner.peak % batch == 0
    return sum(p.numel() * p.element_size() for p in model.parameters()) + runner.peak // batch


# all of it at once ----------------------------------------------------------------------------------------------


def assert_subnet_is_right(twin: object, subnet: Mapping[str, int]) -> None:
    """Activated == exported (outputs, gradients, statistics), == the zeroed full network, and cost == count.

    ``twin`` is a prepared model in float64 that may be changed (``zoo.Prepared.double()``).
    """
    where = places(twin.mutator, subnet, twin.plain)
    assert_same_as_export(twin, subnet, where)
    assert_same_as_zeroed(twin, subnet, where)
    assert_cost_is_counted(twin.mutator, subnet, twin.input_shape)


def assert_same_as_export(
    twin: object, subnet: Mapping[str, int], where: Places, batch: int = 4, relative: float = 1e-10
) -> None:
    """The activated subnet and its export: outputs in both modes, gradients, running statistics."""
    images = twin.images(batch)
    exported = twin.mutator.export(subnet)
    twin.mutator.activate(subnet)
    for training in (False, True):
        outputs = []
        for model in (twin.model, exported):
            model.train(training)
            torch.manual_seed(1)
            with torch.set_grad_enabled(training):
                outputs.append(model(images))
        assert_close(*outputs, relative)
    _assert_gradients(twin, exported, where, *outputs, relative)
    twin.model.zero_grad(set_to_none=True)
    _restore(twin.model, _tensors_of(twin.plain))


def assert_same_as_zeroed(
    twin: object, subnet: Mapping[str, int], where: Places, batch: int = 4, relative: float = 1e-10
) -> None:
    """The activated subnet and the full network whose dropped channels are zeroed."""
    images = twin.images(batch)
    twin.mutator.activate(subnet)
    twin.model.eval()
    with torch.no_grad():
        own = twin.model(images)
    assert_close(own, zeroed(twin.plain, kept_channels(twin.mutator, subnet, where), where, images), relative)


def assert_cost_is_counted(mutator: object, subnet: Mapping[str, int], input_shape: tuple[int, ...]) -> None:
    """The cost model's macs, flops and params are those counted on the export."""
    counted = count(mutator.export(subnet), input_shape)
    costs = mutator.cost_model.of(subnet)
    ours = {name: costs[name] for name in counted}
    assert ours == counted, f"cost model {ours}, counted {counted}"


def _assert_gradients(
    twin: object, exported: nn.Module, where: Places, own: object, other: object, relative: float
) -> None:
    """Gradients of the active slices equal the export's, the rest are zero or None; running statistics likewise."""
    generator = torch.Generator().manual_seed(2)
    weights = [torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) for tensor in tensors(own)]
    for output in (own, other):
        total = sum((tensor * weight).sum() for tensor, weight in zip(tensors(output), weights, strict=True))
        total.backward()
    theirs = dict(exported.named_parameters())
    scale = max(float(p.grad.abs().max()) for p in theirs.values() if p.grad is not None)
    assert scale > 0
    ours = dict(twin.model.named_parameters())
    assert list(ours) == list(theirs)
    for name, parameter in ours.items():
        if theirs[name].grad is None:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        gradient = parameter.grad.reshape(-1)
        assert (gradient[where[name]] - theirs[name].grad).abs().max() <= relative * scale, name
        gradient = gradient.clone()
        gradient[where[name]] = 0
        assert not gradient.any(), f"{name}: a weight that is not active has a gradient"
    before = dict(twin.plain.named_buffers())
    for (name, buffer), (_, static) in zip(twin.model.named_buffers(), exported.named_buffers(), strict=True):
        if name not in where:
            assert torch.equal(buffer, static), name
            continue
        own, full = buffer.reshape(-1), before[name].reshape(-1)
        assert (own[where[name]] - static).abs().max() <= relative * max(1.0, float(static.abs().max())), name
        rest = torch.ones_like(own, dtype=torch.bool)
        rest[where[name]] = False
        assert torch.equal(own[rest], full[rest]), name


def active_positions(layer: nn.Module, tensor: Tensor, kept: np.ndarray) -> tuple:
    """Index of the active part of one of a layer's tensors; ``kept`` units of each group."""
    if not hasattr(layer, "outputs") or tensor.dim() == 0:
        return (...,)
    outputs, inputs = (torch.from_numpy(np.flatnonzero(s.side.active(kept))) for s in (layer.outputs, layer.inputs))
    if tensor.dim() == 1 or getattr(layer, "groups", 1) > 1:
        return (outputs,)
    return (outputs[:, None], inputs)
