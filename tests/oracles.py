"""Independent answers to check the kernel against; nothing here uses mmrazor_lite's own tracing, masking or counting.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from zeroing import NORMS, Places, zeroed

from mmrazor_lite.graph.versions import macs_counter

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
        transposed = getattr(module, "transposed", False)
        if transposed and module.groups > 1:  # whole groups stay or go: they show in what it reads
            continue
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            key = f"{name}.weight"
        elif isinstance(module, nn.MultiheadAttention):
            key = f"{name}.in_proj_weight"
        else:
            continue
        if key in where:  # not the second name of a shared one
            masks[name] = _rows(where[key], full[key], int(transposed))
    for mutable in mutator.mutables:
        for name in mutable.group.producers:
            width = mutator.search_space.layers.get(name)
            if width is not None and mutable.group.unit == 1:
                assert width.choice == mutable.name
                share = subnet[mutable.name] * width.full // mutable.group.full
                assert masks[name].tolist() == [True] * share + [False] * (width.full - share)
    return masks


def _rows(kept: Tensor, weight: Tensor, dim: int = 0) -> Tensor:
    """Mask over one of the first two dimensions of ``weight``: rows of which the export holds something."""
    mask = torch.zeros(weight.shape[dim], dtype=torch.bool)
    mask[kept.reshape(-1) // weight.stride(dim) % weight.shape[dim]] = True
    return mask


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
            if args[0].dim() == 5 and len(args) > 1:  # what torch makes of AdaptiveAvgPool3d(1)
                return list(args[1]) == [-1, -2, -3]
            return args[0].dim() == 4 and len(args) > 1 and sorted(d % 4 for d in args[1]) == [2, 3]
        if name == "hardtanh":
            return args[1] == 0
        return "pool" in name or name in ("relu", "leaky_relu", "elu", "prelu", "_prelu_kernel")


def count(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """macs, flops and params of a plain module by running it once on one image."""
    model.eval()
    image = torch.zeros(1, *input_shape, dtype=next(model.parameters()).dtype)
    # with gradients: without them attention takes a short cut that the counter does not know
    with macs_counter() as counter, _Extras(model) as extras:
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
) -> float:
    """The activated subnet and the full network whose dropped channels are zeroed, with the statistics of the subnet.

    With those of the full network a deep subnet may give the same for all images, and for wrong slices too. Returns by
    how much of itself the output changes with another image: where that is little, the check says little.
    """
    images, others = twin.images(batch), twin.images(batch, seed=1)
    before = {name: buffer.clone() for name, buffer in twin.plain.named_buffers()}
    twin.mutator.activate(subnet)
    calibrate(twin.model, images)
    with torch.no_grad():
        for name, buffer in twin.model.named_buffers():
            twin.plain.get_buffer(name).copy_(buffer)
        twin.model.eval()
        own, other = tensors(twin.model(images)), tensors(twin.model(others))
        reference = zeroed(twin.plain, kept_channels(twin.mutator, subnet, where), where, images)
        for name, buffer in twin.plain.named_buffers():
            buffer.copy_(before[name])
    _restore(twin.model, _tensors_of(twin.plain))
    assert_close(own, reference, relative)
    return min(float((a - b).abs().max() / a.abs().max()) for a, b in zip(own, other, strict=True))


def calibrate(model: nn.Module, images: Tensor) -> None:
    """Give every batch norm of ``model`` the statistics of these images; the active channels of a dynamic one."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad(), torch.random.fork_rng():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


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
        own_scale = max(float(theirs[name].grad.abs().max()), 0.01 * scale)
        assert (gradient[where[name]] - theirs[name].grad).abs().max() <= relative * own_scale, name
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
