"""Independent answers to check the kernel against; nothing here uses mmrazor_lite's own tracing, masking or counting.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
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


def kept_channels(mutator: object, subnet: Mapping[str, int]) -> dict[str, Tensor]:
    """Producing layer -> mask (C,) of the output channels that ``subnet`` keeps, as the mutator publishes its groups.

    Channels of one unit, or of a plain group, are a prefix; the order behind shuffles is the mutator's.
    """
    kept = np.array([subnet[m.group.name] // m.group.unit for m in mutator.mutables])
    masks = {}
    for mutable in mutator.mutables:
        for name in mutable.group.producers:
            side = mutator._graph.layers[name][1]
            masks[name] = torch.from_numpy(side.active(kept))
            width = mutator.search_space.layers.get(name)
            if width is not None and mutable.group.unit == 1:
                assert width.choice == mutable.name
                share = subnet[mutable.name] * width.full // mutable.group.full
                assert masks[name].tolist() == [True] * share + [False] * (width.full - share)
    return masks


ACTIVATIONS = frozenset(
    "relu hardtanh hardswish hardsigmoid sigmoid silu gelu elu softplus exp tanh leaky_relu clamp clamp_min _softmax "
    "add sub".split()  # the last two with a number
)
NORMS = frozenset("native_batch_norm native_layer_norm native_group_norm".split())


class _DeadStaysDead(TorchDispatchMode):
    """Zeroes after every norm, activation and depthwise conv the channels that were zero before it.

    A layer norm leaves them out of its statistics.

    A first run finds these channels: there activations are the identity, so that no channel is zero by chance. The
    second run is the real one and uses what the first one found.
    """

    def __init__(self, found: list[Tensor] | None = None) -> None:
        super().__init__()
        self.probing = found is None
        self.found = found or []
        self._next = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        plain = name.rstrip("_")
        if name == "convolution" and args[8] > 1 and args[1].shape[1] == 1:
            alive = self._alive(args[0], 1).repeat_interleave(args[1].shape[0] // args[8], 1)
            return func(*args, **kwargs) * alive
        if plain not in ACTIVATIONS | NORMS or args[0].dim() < 2:
            return func(*args, **kwargs)
        if plain in ("add", "sub") and isinstance(args[1], Tensor):
            return func(*args, **kwargs)
        alive = self._alive(args[0], args[0].dim() - 1 if plain == "native_layer_norm" else 1)
        if plain == "native_layer_norm":
            return self._layer_norm(func, alive, *args)
        if plain in NORMS:
            result = func(*args, **kwargs)
            return (result[0] * alive, *result[1:])
        if self.probing:
            return args[0] if name.endswith("_") else args[0].clone()
        result = func(*args, **kwargs)
        return result.mul_(alive) if name.endswith("_") else result * alive

    def _alive(self, x: Tensor, dim: int) -> Tensor:
        if self.probing:
            self.found.append((x != 0).sum([d for d in range(x.dim()) if d != dim], keepdim=True) > 0)
            return self.found[-1]
        self._next += 1
        return self.found[self._next - 1]

    @staticmethod
    def _layer_norm(func: Callable, alive: Tensor, x: Tensor, shape: list[int], weight, bias, eps: float) -> tuple:
        if bool(alive.all()) or len(shape) > 1:
            return func(x, shape, weight, bias, eps)
        index = alive.reshape(-1).nonzero().reshape(-1)
        affine = [None if p is None else p[index] for p in (weight, bias)]
        part = func(x.index_select(-1, index), [len(index)], *affine, eps)
        return torch.zeros_like(x).index_copy_(-1, index, part[0]), *part[1:]


def zeroed(plain: nn.Module, masks: Mapping[str, Tensor], images: Tensor) -> object:
    """Output of the full network with every dropped channel zeroed after each producer, norm and activation."""
    modules = dict(plain.named_modules())
    with ExitStack() as stack, torch.no_grad():
        for name, mask in masks.items():
            last = isinstance(modules[name], nn.Linear)

            def hook(_: nn.Module, __: tuple, out: Tensor, mask: Tensor = mask, last: bool = last) -> Tensor:
                return out * (mask if last else mask.view(-1, *[1] * (out.dim() - 2)))

            handle = modules[name].register_forward_hook(hook)
            stack.callback(handle.remove)
        with _DeadStaysDead() as probe:
            plain.eval()(images)
        stack.enter_context(_DeadStaysDead(probe.found))
        return plain(images)


# counts ---------------------------------------------------------------------------------------------------------


class _Extras(TorchDispatchMode):
    """What MMRazor's flops hold beside the macs: conv bias, 2 per norm element, 1 per ReLU element, pool inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name == "convolution" and args[2] is not None:
            self.total += result.numel()
        elif name in ("native_batch_norm", "native_layer_norm", "native_group_norm"):
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
    with FlopCounterMode(display=False) as counter, _Extras() as extras:
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
    images = twin.images(4)
    masks = kept_channels(twin.mutator, subnet)
    exported = twin.mutator.export(subnet)
    twin.mutator.activate(subnet)
    for mode in (False, True):
        torch.manual_seed(1)
        own = twin.model.train(mode) and twin.model(images)
        torch.manual_seed(1)
        other = exported.train(mode) and exported(images)
        assert_close(own, other)
    _assert_gradients(twin, exported, own, other)
    twin.model.zero_grad(set_to_none=True)
    twin.model.load_state_dict(twin.plain.state_dict())
    twin.model.eval()
    with torch.no_grad():
        assert_close(twin.model(images), zeroed(twin.plain, masks, images))
    counted = count(twin.mutator.export(subnet), twin.input_shape)
    costs = twin.mutator.cost_model.of(subnet)
    assert {name: costs[name] for name in counted} == counted


def _assert_gradients(twin: object, exported: nn.Module, own: object, other: object) -> None:
    """Gradients of the active slices equal the export's, the rest are zero or None; running statistics likewise."""
    generator = torch.Generator().manual_seed(2)
    weights = [torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) for tensor in tensors(own)]
    for output in (own, other):
        total = sum((tensor * weight).sum() for tensor, weight in zip(tensors(output), weights, strict=True))
        total.backward()
    layers = dict(twin.model.named_modules())
    kept = np.array([mutable.kept for mutable in twin.mutator.mutables])
    theirs = dict(exported.named_parameters())
    scale = max(float(p.grad.abs().max()) for p in theirs.values() if p.grad is not None)
    assert scale > 0
    ours = dict(twin.model.named_parameters())
    assert list(ours) == list(theirs)
    for name, parameter in ours.items():
        where = active_positions(layers[name.rpartition(".")[0]], parameter, kept)
        assert parameter[where].shape == theirs[name].shape, name
        if theirs[name].grad is None:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        assert (parameter.grad[where] - theirs[name].grad).abs().max() <= 1e-10 * scale, name
        rest = parameter.grad.clone()
        rest[where] = 0
        assert not rest.any(), f"{name}: a weight that is not active has a gradient"
    before = dict(twin.plain.named_buffers())
    for (name, buffer), (_, static) in zip(twin.model.named_buffers(), exported.named_buffers(), strict=True):
        where = active_positions(layers[name.rpartition(".")[0]], buffer, kept)
        assert (buffer[where] - static).abs().max() <= 1e-10 * max(1.0, float(static.abs().max())), name
        if buffer.dim() == 1:
            rest = torch.ones_like(buffer, dtype=torch.bool)
            rest[where] = False
            assert torch.equal(buffer[rest], before[name][rest]), name


def active_positions(layer: nn.Module, tensor: Tensor, kept: np.ndarray) -> tuple:
    """Index of the active part of one of a layer's tensors; ``kept`` units of each group."""
    if not hasattr(layer, "outputs") or tensor.dim() == 0:
        return (...,)
    outputs, inputs = (torch.from_numpy(np.flatnonzero(s.side.active(kept))) for s in (layer.outputs, layer.inputs))
    if tensor.dim() == 1 or getattr(layer, "groups", 1) > 1:
        return (outputs,)
    return (outputs[:, None], inputs)
