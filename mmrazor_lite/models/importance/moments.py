"""Second moments of what layers read: all that a fit of their weights in closed form needs to know of the images.

Shape letters: C channels read, T weights of an output and a channel (the kernel), K inputs of a fit, O outputs of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.calls import Call, Calls
from mmrazor_lite.models.mutators.channel_order import Member

from .definition import Batches, Widths

ROWS = 30  # sampled for each input of a fit: more changed nothing on CIFAR-10
FEW, RIDGE_OF_FEW = 2, 0.3  # rows for each input; with fewer of them, the ridge for each input of a row
HOLDS = 1e9  # a ridge that leaves weights as they are
ROUNDING = 1e-10  # of the mean square of inputs that are single precision
LARGEST = 2048  # inputs of a fit: of more, a matrix and its elimination take minutes and hundreds of MB


@dataclass(eq=False)
class Moments:
    """What a layer reads, summed over sampled places of all images.

    Attributes:
        reader: The weight that meets it, with the channels that it reads.
        joint: Whether the kernel's places are told apart, K = C * T, as ``weight.flatten(1)`` has them. Else K = C and
            each weight of the kernel is an output of its own: exact where no two of them meet in one output.
        gram: Sum of the products of the inputs, uncentred, (K, K) float64.
        total: Sum of the inputs, (K,) float64.
        rows: Number of places summed over.
    """

    reader: Member
    joint: bool
    gram: Tensor
    total: Tensor
    rows: int = 0

    @property
    def mean(self) -> Tensor:
        """Of the inputs, (K,)."""
        return self.total / max(self.rows, 1)

    def covariance(self, centred: bool = True) -> Tensor:
        """Mean products of the inputs, of their distances from the mean where ``centred``: (K, K)."""
        product = self.gram / max(self.rows, 1)
        return product - torch.outer(self.mean, self.mean) if centred else product

    def ridge(self, share: float) -> float:
        """What is added to the diagonal of the covariance: relative to its mean, and no less than rounding errors.

        These are larger where inputs hardly vary around a large mean. Of few rows it is more, see :func:`ridge_of`.
        """
        size = float(self.gram.diagonal().mean()) / max(self.rows, 1)
        share = ridge_of(share, self.rows, len(self.total))
        return max(share * float(self.covariance().diagonal().mean()), ROUNDING * size, 1e-150)

    @property
    def is_few(self) -> bool:
        """Whether a fit would know its rows by heart, and say little of others."""
        return _are_few(self.rows, len(self.total))

    def weight(self) -> Tensor:
        """The weight of the layer as it is now, (K, O) float64."""
        weight = self.reader.tensor.detach().double().cpu().movedim(self.reader.dim, 0)  # (C, outputs, kernel..)
        return weight.movedim(1, -1).reshape(len(self.total), -1)

    def set_weight(self, value: Tensor) -> None:
        """Make (K, O) the weight of the layer, in place."""
        tensor = self.reader.tensor
        shape = tensor.movedim(self.reader.dim, 0).movedim(1, -1).shape
        value = value.reshape(shape).movedim(-1, 1).movedim(0, self.reader.dim)
        with torch.no_grad():
            tensor.copy_(value)

    def places(self, group: int) -> Tensor:
        """Inputs of each unit of a group, (units, inputs of a unit)."""
        channels = torch.as_tensor(self.reader.places(group))
        taps = len(self.total) // len(self.reader.side)
        return (channels[:, :, None] * taps + torch.arange(taps)).flatten(1)

    def fit(self, keep: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
        """The weight (K, O) that gives with the inputs ``keep`` (K,) bool what all of them gave, and a constant.

        Least squares with an intercept; the ridge, relative to the mean square of the inputs, holds it at the weight
        that is there. The constant (outputs of the layer,) belongs behind the layer.
        """
        covariance, weight, mean = self.covariance(), self.weight(), self.mean
        held = self.ridge(ridge)
        inside = covariance[keep][:, keep]
        inside.diagonal().add_(held)
        fitted = torch.zeros_like(weight)
        target = covariance[keep] @ weight + held * weight[keep]
        fitted[keep] = torch.cholesky_solve(target, torch.linalg.cholesky(inside))
        constant = mean @ (weight - fitted)
        return fitted, constant.reshape(-1, self._outputs()).sum(0)

    def _outputs(self) -> int:
        tensor = self.reader.tensor
        return tensor.movedim(self.reader.dim, 0).shape[1]


def ridge_of(share: float, rows: int, inputs: int) -> float:
    """The ridge of a fit: more than ``share`` where rows are few, as behind a pooling, where an image is one row.

    Of the head of EfficientNet-Lite0, 1,280 inputs fitted on 400 images, other images lose least with about 1, and with
    416 inputs a third of what they lose with 0.001 (tried up to 10).
    """
    return max(share, RIDGE_OF_FEW * inputs / max(rows, 1)) if _are_few(rows, inputs) else share


def _are_few(rows: int, inputs: int) -> bool:
    return rows < FEW * inputs


def gather(
    network: Widths, batches: Batches, rows: int = ROWS, largest: int = LARGEST, seed: int = 0
) -> dict[str, Moments]:
    """The moments of what every layer reads that sums over channels of a width group, by the name of the layer.

    Left out are layers that no image reaches, and those whose calls cannot be seen, such as weight-standardised convs.

    Args:
        network: A width mutator; its full network runs once over all images, in eval mode.
        batches: (images (N, C, H, W), targets), gone through twice.
        rows: Places summed over for each input of a fit; at least one of every image.
        largest: Inputs of a fit. A layer with more of them has its channels' moments alone (see ``Moments.joint``), and
            so has a transposed conv; one with more channels than that has none.

    Raises:
        UserError: There is no image.
    """
    count = sum(len(images) for images, _ in batches)
    if count == 0:
        raise UserError("importance: the data yields no image")
    watcher = _Sums(readers(network), count, rows, largest, seed)
    layers = {key: (member.layer, member.kind) for key, member in watcher.readers.items()}
    for images, _ in batches:
        if len(images):
            watcher.images = len(images)
            with torch.no_grad(), Calls(layers, watcher):
                network.run(images)
    return watcher.found


def readers(network: Widths) -> list[Member]:
    """The weights that sum over channels of width groups, and whose calls can be seen."""
    return [
        member
        for member in network.members
        if member.role == "inputs"
        and not member.side.is_fixed
        and not member.kind.own_forward
        and not member.kind.is_grouped(network.architecture.get_submodule(member.layer))
    ]


@dataclass
class _Sums:
    """A watcher of calls that sums what they read."""

    members: Sequence[Member]
    count: int  # images in all
    per_input: int
    largest: int
    seed: int
    images: int = 0  # of the batch that runs
    found: dict[str, Moments] = field(default_factory=dict)
    readers: Mapping[int, Member] = field(init=False)

    def __post_init__(self) -> None:
        self.readers = {id(member.tensor): member for member in self.members if len(member.side) <= self.largest}
        self._random = torch.Generator().manual_seed(self.seed)

    def before(self, call: Call) -> None:
        pass

    def other(self, function: Callable, args: tuple, kwargs: Mapping, result: object) -> None:
        pass

    def after(self, call: Call, y: Tensor) -> None:
        reader = self.readers[id(call.weight)]
        moments = self.found.get(reader.layer)
        if moments is None:
            moments = self.found[reader.layer] = self._empty(reader)
        seen = _rows(call, y, moments.joint, partial_places(self._wanted(moments), self._random)).double().cpu()
        moments.gram.addmm_(seen.T, seen)
        moments.total += seen.sum(0)
        moments.rows += len(seen)

    def _empty(self, reader: Member) -> Moments:
        inputs = math.prod(reader.tensor.shape) // reader.tensor.movedim(reader.dim, 0).shape[1]
        joint = inputs <= self.largest and reader.kind.tensors["weight"][0] == "outputs"
        size = inputs if joint else len(reader.side)
        return Moments(reader, joint, torch.zeros(size, size, dtype=torch.float64), torch.zeros(size).double())

    def _wanted(self, moments: Moments) -> int:
        """Rows of this batch, as its share of all images."""
        return max(math.ceil(self.per_input * len(moments.total) * self.images / self.count), self.images)


def partial_places(wanted: int, random: torch.Generator) -> Callable[[int], Tensor]:
    """Draws up to ``wanted`` of so many places, one in each of as many equal parts: every image has its share."""

    def draw(places: int) -> Tensor:
        if places <= wanted:
            return torch.arange(places)
        parts = torch.arange(wanted, dtype=torch.float64) + torch.rand(wanted, generator=random, dtype=torch.float64)
        return (parts * (places / wanted)).long().clamp_(max=places - 1)

    return draw


def _rows(call: Call, y: Tensor, joint: bool, draw: Callable[[int], Tensor]) -> Tensor:
    """What is read at some places, (P, K)."""
    if joint:
        return call.patches(draw(call.places(y)).to(y.device))[:, 0]
    rows = call.x.movedim(call.dim, -1)
    places = draw(rows.numel() // rows.shape[-1]).to(y.device)
    return rows[torch.unravel_index(places, rows.shape[:-1])]
