"""The check that an exported subnet stands alone: it computes what the network does, from tensors of its own.

A copy follows attributes, buffers, methods bound to modules and what functions close over. It does not follow what is
hidden deeper, such as a module in a dictionary that a hook closes over: that hook goes on writing into the network it
was made in.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph.alike import Remembered
from mmrazor_lite.models.mutables import ChoiceModule
from mmrazor_lite.models.ops import export

from .check import TOLERANCE, backward_error, untouched

_KNOWN = Remembered()  # what stands alone
MAX_DEPTH = 6  # of objects inside objects that are looked through
HOOKS = {
    "_forward_hooks": "a forward hook",
    "_forward_pre_hooks": "a forward pre-hook",
    "_backward_hooks": "a backward hook",
    "_backward_pre_hooks": "a backward pre-hook",
}
WAY_OUT = (
    "keep such state in an attribute of the module and reach it from the module that a hook is called with, or through "
    "a method (register_forward_hook(self.method))"
)


def check_standalone(
    model: nn.Module, images: Tensor, replaced: Collection[nn.Module] = (), quick: bool = False
) -> None:
    """Check that an export of the active subnet computes what the subnet does, whatever ran before and after.

    What is built like a model that was checked before is not checked again.

    Args:
        images: (2, C, H, W).
        replaced: Layers that dynamic ones stand for; what refers to one of them refers to the network.
        quick: One image in eval mode, after the network has run on others, and no more.

    Raises:
        UserError: It cannot be copied, or the copy depends on the network it was made of; names the module and what
            stands in the way.
    """
    _KNOWN.get(model, (images.shape, quick), lambda: _check(model, images, replaced, quick))


def _check(model: nn.Module, images: Tensor, replaced: Collection[nn.Module], quick: bool) -> None:
    with untouched(model), _seeded():
        model.eval()
        if not quick:
            _outputs(model, images)  # leaves the state of other images than those compared
        clone = copied(model)
        images = _others(images)
        problem = _differs(model, clone, [images[:1]] if quick else [images[:1], images])
        if problem is None and not quick:
            problem = _reads(model, clone, images[:1]) or _differs_in_training(model, clone, images, replaced)
    if problem is not None:
        holder = next(_holders(model, clone, replaced), None)
        where = holder or f"{type(model).__name__} keeps state outside of its modules and their attributes"
        raise UserError(f"{where}; a copy of the network, such as a subnet's, {problem}. Way out: {WAY_OUT}")


def check_forms(
    model: nn.Module, images: Tensor, forms: Mapping[str, tuple[ChoiceModule, Sequence[Mapping[str, Any]]]]
) -> None:
    """Check of each choice module by itself that what it leaves behind computes what it does, whatever is chosen.

    The modules have other choices active afterwards.

    Args:
        images: (N, C, H, W).
        forms: Name of a choice module -> itself, and the values that it is given one after the other.

    Raises:
        UserError: Names the module and the values.
    """
    read: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, args: tuple) -> None:
        read.setdefault(name, args[0].clone())

    with untouched(model), _seeded(), torch.no_grad():
        model.eval()
        handles = [module.register_forward_pre_hook(partial(record, name)) for name, (module, _) in forms.items()]
        try:
            model(images)
        finally:
            for handle in handles:
                handle.remove()
        for name, x in read.items():
            module, every = forms[name]
            every = list(every)
            module.activate(every[0])  # so that modules of one build are alike, whatever was active
            about = (x.shape, repr(every))
            _KNOWN.get(module, about, lambda n=name, m=module, e=every, x=x: _check_each(n, m, e, x))


def _check_each(name: str, module: ChoiceModule, every: Sequence[Mapping[str, Any]], x: Tensor) -> None:
    for values in every:
        module.activate(values)
        static = copied(module).eval()
        problem = _differs(module, static, [x])
        if problem is not None:
            raise UserError(
                f"NasMutator: '{name}' ({type(module).__name__}): what settled() leaves behind for {dict(values)} "
                f"{problem}"
            )


def copied(model: nn.Module, make: Callable[[nn.Module], nn.Module] = export) -> nn.Module:
    """Return ``make(model)``.

    Raises:
        UserError: Something in it cannot be copied; names the module and the attribute.
    """
    try:
        return make(model)
    except UserError:
        raise
    except Exception as error:  # whatever an object says to being copied
        known = {id(module): module for module in model.modules()}
        for name, module in model.named_modules():
            for key, value in vars(module).items():
                try:
                    copy.deepcopy(value, dict(known))
                except Exception as reason:
                    place = f"{key}' of module '{name}" if name else f"{key}' of the model itself"
                    raise UserError(
                        f"the attribute '{place}' ({type(module).__name__}) cannot be copied, so that no subnet can be "
                        f"exported: {_line(reason)}. Way out: make it in forward(), or give its class __deepcopy__"
                    ) from error
        raise


def _differs(model: nn.Module, clone: nn.Module, batches: Sequence[Tensor]) -> str | None:
    """What is wrong with a copy in eval mode."""
    clone.eval()
    for batch in batches:
        try:
            outputs = _outputs(clone, batch)
        except Exception as error:  # whatever a model raises where a tensor of other images meets its own
            return f"fails where the network runs: {_line(error)}"
        expected = _outputs(model, batch)
        if not _close(outputs, expected, lambda own, other: float((own - other).abs().max()), TOLERANCE):
            return "computes something else"
    return None


def _reads(model: nn.Module, clone: nn.Module, images: Tensor) -> str | None:
    """Whether a copy depends on the tensors of the network that it was made of."""
    before = _outputs(clone, images)
    with _blank(model):
        after = _outputs(clone, images)
    same = all(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in zip(before, after, strict=True))
    return None if same else "reads the weights of the network it was made of"


def _differs_in_training(
    model: nn.Module, clone: nn.Module, images: Tensor, replaced: Collection[nn.Module]
) -> str | None:
    """What is wrong with one forward and backward pass of a copy."""
    model.train()
    clone.train()
    own = [*model.parameters(), *model.buffers()]
    versions = [tensor._version for tensor in own]
    for parameter in model.parameters():
        parameter.grad = None
    try:
        outputs = _outputs(clone, images, backward=True)
    except Exception as error:
        fails_itself = backward_error(model, images) is not None
        return None if fails_itself else f"fails in training where the network trains: {_line(error)}"
    if any(tensor._version != version for tensor, version in zip(own, versions, strict=True)):
        return "writes into the tensors of the network it was made of"
    if any(parameter.grad is not None for parameter in model.parameters()):
        return "trains the weights of the network it was made of"
    if next(_holders(model, clone, replaced), None) is None:
        return None
    expected = _outputs(model, images)
    close = _close(outputs, expected, lambda own, other: float((own - other).norm()) / len(own) ** 0.5, 0.05)
    return None if close else "computes something else in training"  # norms of two images enlarge small differences


def _outputs(model: nn.Module, images: Tensor, backward: bool = False) -> list[Tensor]:
    """Tensors that ``model`` gives, detached; the same random numbers are drawn every time."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    backward = backward and torch.is_grad_enabled()  # loading may forbid it, in a forked process
    with torch.set_grad_enabled(backward):
        found = [leaf for leaf in tree_leaves(model(images)) if isinstance(leaf, Tensor)]
        trained = [output.float().sum() for output in found if output.requires_grad]
        if backward and trained:
            sum(trained).backward()
    return [output.detach().float() for output in found]


def _close(
    outputs: Sequence[Tensor], expected: Sequence[Tensor], distance: Callable[[Tensor, Tensor], float], limit: float
) -> bool:
    if [output.shape for output in outputs] != [output.shape for output in expected]:
        return False
    return all(
        not own.numel() or distance(own, other) <= limit * max(1e-12, float(other.abs().max()))
        for own, other in zip(outputs, expected, strict=True)
        if bool(torch.isfinite(other).all())
    )


def _others(images: Tensor) -> Tensor:
    """Other images of the same shape."""
    return images.flip(0).roll(1, -1) * 0.7 + images.flip(-1) * 0.5


@contextmanager
def _blank(model: nn.Module) -> Iterator[None]:
    """Inside, every parameter and buffer of ``model`` is full of zeros; no memory is copied."""
    tensors = [*model.parameters(), *model.buffers()]
    data = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)
        yield
    finally:
        for tensor, values in zip(tensors, data, strict=True):
            tensor.data = values


@contextmanager
def _seeded() -> Iterator[None]:
    """Put back the random states of Python and numpy; torch's is the caller's."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


# what stands in the way -----------------------------------------------------------------------------------------


def _holders(model: nn.Module, clone: nn.Module, replaced: Collection[nn.Module]) -> Iterator[str]:
    """What in ``clone`` refers to modules or tensors of ``model``, in words."""
    owned = {id(tensor): "a tensor" for tensor in (*model.parameters(), *model.buffers())}
    owned |= {id(module): f"the module '{name}'" if name else "the model itself" for name, module in _named(model)}
    owned |= {id(module): "a layer" for module in replaced}
    containers = {  # of its modules: dictionaries and lists are copied with them
        id(value): f"'{key}' of {owned[id(module)]}"
        for _, module in _named(model)
        for key, value in vars(module).items()
        if isinstance(value, (dict, list, set)) and not key.startswith("_")
    }
    for name, module in clone.named_modules():
        place = f"module '{name}' ({type(module).__name__})" if name else f"the model itself ({type(module).__name__})"
        for key, value in vars(module).items():
            if key in ("_modules", "_parameters", "_buffers") or key.startswith("_mmrazor"):
                continue
            for function, held in _reach(value, {**containers, **owned}, MAX_DEPTH):
                what = f"{HOOKS[key]} of {place}" if key in HOOKS else f"the attribute '{key}' of {place}"
                yield f"{what}{_location(function)} holds {held} of the network it was made in"


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return model.named_modules(remove_duplicate=False)


def _reach(value: Any, owned: dict[int, str], depth: int, function: Any = None) -> Iterator[tuple[Any, str]]:
    """The last function on the way to an object of ``owned``, and what the object is."""
    if id(value) in owned:
        yield function, owned[id(value)]
        return
    if depth == 0 or isinstance(value, (nn.Module, Tensor, type)):
        return
    if isinstance(value, FunctionType):
        function = value
    for part in _parts(value):
        yield from _reach(part, owned, depth - 1, function)


def _parts(value: Any) -> Iterator[Any]:
    """The objects that an object holds."""
    if isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not yet filled
                continue
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
    elif isinstance(value, MethodType):
        yield value.__self__
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple, set)):
        yield from value
    elif hasattr(value, "__dict__") and not callable(getattr(value, "__wrapped__", None)):
        yield from vars(value).values()


def _location(function: Any) -> str:
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    return f", {function.__name__} of {os.path.basename(code.co_filename)}:{code.co_firstlineno},"


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}".rstrip(": ")
