"""What TF-NAS learns beside the weights, and what its networks take: architecture parameters and block latencies.

Shape letters: B blocks, O operators of a block, D depths of a stage.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.models.algorithms.most_probable import Depths, by_probability
from mmrazor_lite.models.mutables import MutableDepth, MutableOP
from mmrazor_lite.models.mutables.operator import CANDIDATES
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.subnet import Stage


@dataclass(frozen=True, eq=False)
class Block:
    """A block of the space: its name, the choice of its operator, and where it is.

    Attributes:
        widths: Of each operator, the choice of its width.
        offered: Of each operator, the widths there are.
        stage, position: Its stage, and its place there.
    """

    name: str
    module: MutableOP
    widths: tuple[str, ...]
    offered: tuple[Sequence[int], ...]
    stage: Stage
    position: int

    def choices(self, operator: int, width: int) -> dict[str, Any]:
        """The choices that make it an operator of a width."""
        return {self.name: self.module.names[operator], self.widths[operator]: width}

    def candidate(self, operator: int) -> tuple[str, nn.Module]:
        """Where in the network an operator is, and its module."""
        name = self.module.names[operator]
        return f"{self.name}.{CANDIDATES}.{name}", self.module.candidate(name)

    def runs(self, depths: Mapping[str, int]) -> bool:
        """Whether it runs at these depths of the stages; a stage that has none runs whole."""
        return self.position < depths.get(self.stage.name, self.position + 1)


def blocks_of(mutator: NasMutator) -> list[Block]:
    """The blocks of a space of TF-NAS, in order.

    Raises:
        UserError: It has other choices, or blocks outside of stages.
    """
    space, left, found = mutator.search_space, dict(mutator.modules), []
    for stage in space.stages:
        left.pop(stage.name, None)
        for position, name in enumerate(stage.blocks):
            module = left.get(name)
            names = module.names if isinstance(module, MutableOP) else ()
            widths = tuple(f"{name}.{module.width_of(operator)}" for operator in names)
            offered = tuple(space[width].candidates for width in widths if width in space)
            found.append(Block(name, module, widths, offered, stage, position))
            if 2 <= len(set(widths)) == len(offered) == len(found[0].widths):
                del left[name]
    if left or not found:
        raise UserError(
            f"TFNAS: '{next(iter(left), '')}' must choose among operators with widths of their own, two or more and as "
            "many in every block, in stages; use the backbone TFNASNet"
        )
    return found


class ArchParameters(nn.Module):
    """Log probabilities of the operators of every block and of the depths of every stage.

    Args:
        blocks: The blocks of the space.
        stages: Name of each stage whose depth is a choice -> its module, in order.
    """

    def __init__(self, blocks: Sequence[Block], stages: Mapping[str, MutableDepth]) -> None:
        super().__init__()
        self._blocks = tuple(blocks)
        self._operators = tuple((block.name, block.module) for block in blocks)
        self._stages = tuple(stages.items())
        self.alphas = nn.ParameterList(
            torch.full((len(m.names),), -float(np.log(len(m.names)))) for _, m in self._operators
        )
        self.betas = nn.ParameterList(
            torch.full((len(m.depths),), -float(np.log(len(m.depths)))) for _, m in self._stages
        )

    @torch.no_grad()
    def normalise(self) -> None:
        """Make log probabilities of them again, as after each of the authors' steps."""
        for parameter in self.parameters():
            parameter.copy_(functional.log_softmax(parameter, dim=0))

    def check(self, when: str) -> None:
        """Check that all are numbers.

        Raises:
            UserError: One is not finite; names its choice.
        """
        named = [*zip(self._operators, self.alphas, strict=True), *zip(self._stages, self.betas, strict=True)]
        finite = torch.stack([torch.isfinite(parameter).all() for _, parameter in named]).tolist()
        if not all(finite):
            name = named[finite.index(False)][0][0]
            raise UserError(
                f"{when}: the architecture parameters of '{name}' are not finite; training stopped and the checkpoints "
                "are kept; lower optim_wrapper.arch_parameters.optimizer.lr or clip its gradients, then --resume"
            )

    def most_probable(self) -> tuple[list[int], dict[str, int]]:
        """The most probable operator of each block, and depth of each stage."""
        operators, depths = ([row.tolist() for row in group] for group in (self.alphas, self.betas))
        return [row.index(max(row)) for row in operators], {
            name: m.depths[row.index(max(row))] for (name, m), row in zip(self._stages, depths, strict=True)
        }

    def networks(
        self, least: np.ndarray, most: np.ndarray, limits: tuple[float, float]
    ) -> Iterator[tuple[float, list[int], dict[str, int]]]:
        """Those that can cost what ``limits`` allow, the most probable one first; see :func:`by_probability`.

        Yields:
            By how much its logarithm is less probable than that of the most probable one of all; the operator of each
            block; the depth of each stage.
        """
        offered = {name: (m.depths, beta.tolist()) for (name, m), beta in zip(self._stages, self.betas, strict=True)}
        stages = list(dict.fromkeys(block.stage for block in self._blocks))
        parts = []
        for stage in stages:
            depths, scores = offered.get(stage.name, ((len(stage.blocks),), [0.0]))
            own = [number for number, block in enumerate(self._blocks) if block.stage == stage]
            parts.append(Depths(scores, [own[:depth] for depth in depths]))
        alphas = [alpha.tolist() for alpha in self.alphas]
        for behind, operators, indices in by_probability(alphas, parts, least, most, limits):
            found = {stage.name: index for stage, index in zip(stages, indices, strict=True) if stage.name in offered}
            yield behind, operators, {name: offered[name][0][index] for name, index in found.items()}

    @contextmanager
    def sinks(self) -> Iterator[None]:
        """Inside, every stage gives the mean of its depths by their probabilities, without a gradient for these."""
        try:
            for (_, stage), beta in zip(self._stages, self.betas, strict=True):
                stage.mixture = beta.detach().softmax(0)
            yield
        finally:
            self._release()

    @contextmanager
    def mixed(self, noise: Sequence[Tensor], temperature: float) -> Iterator[list[Tensor]]:
        """Inside, every block runs all operators, weighted by a relaxed sample, and every stage all depths.

        Args:
            noise: Gumbel noise of each block.
            temperature: Of the relaxation (Gumbel-softmax, arXiv:1611.01144).

        Yields:
            The weights (O) of each block.
        """
        weights = [((a + n.to(a)) / temperature).softmax(0) for a, n in zip(self.alphas, noise, strict=True)]
        try:
            for (_, module), weight in zip(self._operators, weights, strict=True):
                module.mixture = weight
            for (_, stage), beta in zip(self._stages, self.betas, strict=True):
                stage.mixture = beta.softmax(0)
            yield weights
        finally:
            self._release()

    def _release(self) -> None:
        for _, module in (*self._operators, *self._stages):
            module.mixture = None


class BlockLatency:
    """Milliseconds of every block with every operator at any width.

    Args:
        table: Of the space of TF-NAS: one part per operator choice, by operator and width.
        blocks: The blocks of the space.

    Attributes:
        base: Of what is no block.
        least, most: Of every operator of every block at the best of its widths and at the worst, (B, O).

    Raises:
        UserError: The table has other parts.
    """

    def __init__(self, table: LatencyTable, blocks: Sequence[Block]) -> None:
        factor, offset = (1.0, 0.0)
        if table.correction is not None and table.correction.applied:
            factor, offset = table.correction.factor, table.correction.offset
        cells, self._values, self._first = {cell.name: cell for cell in table.cells}, [], []
        for block in blocks:
            cell = cells.get(block.name)
            if cell is None or cell.choices != (block.name, block.widths):
                raise UserError(
                    f"latency table: no entries for '{block.name}' by operator and width; measure it for this model"
                )
            self._values.append(factor * cell.values[..., 0])
            self._first.append([table.space[width].candidates[0] for width in block.widths])
        offered = [
            [[self.of_block(number, op, width) for width in block.offered[op]] for op in range(len(block.offered))]
            for number, block in enumerate(blocks)
        ]
        self.least, self.most = (np.array([list(map(end, row)) for row in offered]) for end in (min, max))
        self.base = offset + factor * float(table.base.values.reshape(()))

    def of_block(self, block: int, operator: int, width: int) -> float:
        """Milliseconds of one block."""
        return float(self._values[block][operator, width - self._first[block][operator]])

    def of_network(self, blocks: Sequence[int], operators: Sequence[int], widths: Sequence[int]) -> float:
        """Milliseconds of a network of these blocks, added up in order (``sum`` adds otherwise from Python 3.12 on)."""
        return functools.reduce(operator.add, map(self.of_block, blocks, operators, widths), self.base)

    def matrix(self, widths: Sequence[Sequence[int]]) -> np.ndarray:
        """Milliseconds (B, O) of all operators at ``widths`` (B, O)."""
        return np.array([[self.of_block(b, o, width) for o, width in enumerate(row)] for b, row in enumerate(widths)])


class Current:
    """What a search stands at, kept beside the tensors, so that a step need not wait for the device.

    It is read when it is first asked for, and no more: who changes the tensors makes a new one, or forgets the alphas.

    Args:
        algorithm: A ``TFNAS``, whose tensors are replaced when it moves to another device.
    """

    def __init__(self, algorithm: Any) -> None:
        self._algorithm = algorithm

    @cached_property
    def alphas(self) -> np.ndarray:
        """Log probabilities of the operators, (B, O)."""
        return torch.stack([alpha.detach() for alpha in self._algorithm.arch_parameters.alphas]).double().cpu().numpy()

    def forget_alphas(self) -> None:
        """Read them anew: they are updated much more often than the widths."""
        vars(self).pop("alphas", None)

    @cached_property
    def widths(self) -> list[list[int]]:
        """Of every operator, (B, O)."""
        return self._algorithm.widths.tolist()

    @cached_property
    def milliseconds(self) -> np.ndarray:
        """Of every operator at its width, (B, O)."""
        return self._algorithm.latency.matrix(self.widths)
