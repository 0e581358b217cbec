"""Elastic choices inside a model: how many blocks of a stage run, and which kernel and width a block has."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import Choice
from mmrazor_lite.subnet.choice import Value

from .choice_module import ITSELF, InnerWidths, Offer

KERNEL, RATIO, DEPTH = "kernel_size", "expand_ratio", "depth"


class KernelConv2d(nn.Conv2d):
    """A depthwise convolution whose kernel is a choice: the centre of the largest one, through learned matrices.

    The weights of each size come from the next larger size: ``w_5 = M_75 . centre_5x5(w_7)``, then ``w_3 = M_53 .
    centre_3x3(w_5)``, with one matrix (k*k, k*k) per step that all channels share and that starts as the identity.

    Source: "Once-for-All", arXiv:1908.09791, section 3.3 (elastic kernel size).

    Args:
        channels: In and out.
        kernel_sizes: Odd, ascending; the last one is the size of the weights.
        stride: 1 or 2.

    Raises:
        UserError: Sizes that are even, repeated or out of order.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], stride: int = 1) -> None:
        sizes = _kernel_sizes(kernel_sizes)
        super().__init__(channels, channels, sizes[-1], stride, sizes[-1] // 2, groups=channels, bias=False)
        self.kernel_sizes = sizes
        self.active_kernel = sizes[-1]
        for small, large in itertools.pairwise(sizes):
            self.register_parameter(transform_name(large, small), nn.Parameter(torch.eye(small * small)))

    def kernel_weight(self) -> Tensor:
        """The weights (C, 1, k, k) of the active channels at the active kernel size."""
        weight = self.weight
        for large, small in zip(self.kernel_sizes[:0:-1], self.kernel_sizes[-2::-1], strict=True):
            if large == self.active_kernel:
                break
            edge = (large - small) // 2
            centre = weight[:, :, edge : edge + small, edge : edge + small]
            matrix = getattr(self, transform_name(large, small))
            weight = F.linear(centre.flatten(1), matrix).view(-1, 1, small, small)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H / stride, W / stride), with the active channels and kernel."""
        padding = self.active_kernel // 2
        return F.conv2d(x, self.kernel_weight(), None, self.stride, padding, self.dilation, self.groups)

    @torch.no_grad()
    def settled(self) -> nn.Conv2d:
        """A plain convolution of the active channels and kernel, with weights of its own."""
        weight = self.kernel_weight().detach()
        channels, size = len(weight), self.active_kernel
        conv = nn.Conv2d(
            channels, channels, size, self.stride, size // 2, groups=channels, bias=False, device=weight.device
        ).to(weight.dtype)
        conv.weight = nn.Parameter(weight.clone(memory_format=torch.preserve_format), self.weight.requires_grad)
        return conv.train(self.training)


def transform_name(large: int, small: int) -> str:
    """Name of the matrix that makes the kernel of size ``small`` from the one of size ``large``."""
    return f"transform_{large}to{small}"


class MutableDepth(nn.Sequential):
    """A stage of which the first d blocks run.

    With :attr:`mixture` set, all blocks run and the output is the weighted sum of what each depth gives: the sink
    connections of a differentiable search (TF-NAS, arXiv:2008.05314, section 3.2).

    Args:
        blocks: In order.
        depths: Numbers of blocks that may run, ascending, up to all of them.

    Raises:
        UserError: Depths that are no such numbers.
    """

    def __init__(self, *blocks: nn.Module, depths: Sequence[int] | None = None) -> None:
        super().__init__(*blocks)
        self.depths = (len(blocks),) if depths is None else tuple(depths)
        whole = self.depths and all(type(depth) is int and depth > 0 for depth in self.depths)
        if not whole or list(self.depths) != sorted(set(self.depths)) or self.depths[-1] != len(blocks):
            raise UserError(
                f"depths {list(self.depths)} must be ascending and end at the {len(blocks)} blocks there are"
            )
        self.active_depth = len(blocks)
        self.mixture: Tensor | None = None  # (depths,), while a differentiable search sets it

    def forward(self, x: Tensor) -> Tensor:
        """Run the first ``active_depth`` blocks, or mix the outputs of all depths."""
        if self.mixture is not None:
            return self._mixed(x)
        for index, block in enumerate(self._modules.values()):
            if index < self.active_depth:
                x = block(x)
        return x

    def _mixed(self, x: Tensor) -> Tensor:
        outputs = []
        for depth, block in enumerate(self._modules.values(), start=1):
            x = block(x)
            if depth in self.depths:
                outputs.append(x)
        return sum(weight * output for weight, output in zip(self.mixture, outputs, strict=True))

    def offer(self) -> Offer:
        """See :class:`ChoiceModule`: how many blocks run; nothing where it is always all of them."""
        choices = [Choice(DEPTH, self.depths, kind="depth")] if len(self.depths) > 1 else []
        return Offer(choices, stage=tuple(self._modules))

    def activate(self, values: Mapping[str, Value]) -> None:
        """See :class:`ChoiceModule`."""
        self.active_depth = values[DEPTH]

    def settled(self) -> nn.Sequential:
        """A plain sequence of the blocks that run."""
        return nn.Sequential(*list(self)[: self.active_depth]).train(self.training)


class ElasticBlock(BaseModule):
    """A block whose kernel and inner width are choices; a subclass says which of its layers have that width.

    Args:
        kernel_sizes: Ascending; the largest is built.
        expand_ratios: Ascending; the largest is built.

    Raises:
        UserError: They are no such numbers.
    """

    out_channels: int | None = None  # of what it gives

    def __init__(self, kernel_sizes: Sequence[int], expand_ratios: Sequence[int | float]) -> None:
        super().__init__()
        self.kernel_sizes, self.expand_ratios = _kernel_sizes(kernel_sizes), _expand_ratios(expand_ratios)

    @property
    def is_elastic(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.kernel_sizes) > 1 or len(self.expand_ratios) > 1

    @property
    def inner_groups(self) -> tuple[dict[str, list[str]], ...]:
        """The layers that share a width, as groups of a width mutator with names inside the block.

        The weights of the last reader of a group (``into``) say how important its channels are.
        """
        raise NotImplementedError

    def inner_widths(self, ratio: int | float) -> tuple[int, ...]:
        """The width of each of :attr:`inner_groups` at an expand ratio."""
        raise NotImplementedError

    def offer(self) -> Offer:
        """See :class:`ChoiceModule`: its kernel and its ratio; nothing where there is one of both."""
        if not self.is_elastic:
            return Offer()
        kernel, ratio = Choice(KERNEL, self.kernel_sizes, "value"), Choice(RATIO, self.expand_ratios, "value")
        widths = {value: self.inner_widths(value) for value in self.expand_ratios}
        inner = InnerWidths(RATIO, self.inner_groups, widths)
        return Offer([kernel, ratio], {ITSELF: inner}, out_channels=self.out_channels)

    def activate(self, values: Mapping[str, Value]) -> None:
        """See :class:`ChoiceModule`: all its :class:`KernelConv2d` run with one size."""
        for module in self.modules():
            if isinstance(module, KernelConv2d):
                module.active_kernel = values[KERNEL]

    def settled(self) -> nn.Module:
        """Itself: what it holds is settled."""
        return self


def _kernel_sizes(values: Sequence[int]) -> tuple[int, ...]:
    sizes = _listed(values)
    whole = sizes and all(type(size) is int and size > 0 and size % 2 for size in sizes)
    if not whole or list(sizes) != sorted(set(sizes)):
        raise UserError(f"kernel_sizes {list(sizes)} must be odd and ascending, such as [3, 5, 7]")
    return sizes


def _expand_ratios(values: Sequence[int | float]) -> tuple[int | float, ...]:
    ratios = _listed(values)
    numbers = ratios and all(type(ratio) in (int, float) and ratio > 0 for ratio in ratios)
    if not numbers or list(ratios) != sorted(set(ratios)):
        raise UserError(f"expand_ratios {list(ratios)} must be ascending and above 0, such as [3, 4, 6]")
    return ratios


def _listed(values: object) -> tuple:
    return tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
