"""What TF-NAS learns beside the weights, and what its networks take: architecture parameters and block latencies.

Shape letters: B blocks, O operators of a block, D depths of a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.models.mutables import MutableDepth, MutableOP


class ArchParameters(nn.Module):
    """Log probabilities of the operators of every block and of the depths of every stage.

    Args:
        operators: The operator choices by name, in order.
        stages: The depth choices by name of the stage, in order.
    """

    def __init__(self, operators: Mapping[str, MutableOP], stages: Mapping[str, MutableDepth]) -> None:
        super().__init__()
        self._operators, self._stages = tuple(operators.items()), tuple(stages.items())
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

    def best(self) -> tuple[list[int], list[int]]:
        """The most probable operator of each block, and the index of the most probable depth of each stage."""
        alphas, betas = ([int(p.argmax()) for p in group] for group in (self.alphas, self.betas))
        return alphas, betas

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
        operators: The operator choices by name, in order.

    Raises:
        UserError: The table has other parts.
    """

    def __init__(self, table: LatencyTable, operators: Mapping[str, Any]) -> None:
        factor, offset = (1.0, 0.0)
        if table.correction is not None and table.correction.applied:
            factor, offset = table.correction.factor, table.correction.offset
        cells, self._values, self._first = {cell.name: cell for cell in table.cells}, [], []
        for name, module in operators.items():
            cell = cells.get(name)
            widths = tuple(f"{name}.{candidate}.mid_channels" for candidate in module.names)
            if cell is None or cell.choices != (name, widths):
                raise UserError(
                    f"latency table: no entries for '{name}' by operator and width; measure it for this model"
                )
            self._values.append(factor * cell.values[..., 0])
            self._first.append([table.space[width].candidates[0] for width in widths])
        self.base = offset + factor * float(table.base.values.reshape(()))

    def of_block(self, block: int, operator: int, width: int) -> float:
        """Milliseconds of one block."""
        return float(self._values[block][operator, width - self._first[block][operator]])

    def of_network(self, blocks: Sequence[int], operators: Sequence[int], widths: Sequence[int]) -> float:
        """Milliseconds of a network of these blocks, added up in order."""
        return sum(map(self.of_block, blocks, operators, widths), start=self.base)

    def matrix(self, widths: Sequence[Sequence[int]]) -> np.ndarray:
        """Milliseconds (B, O) of all operators at ``widths`` (B, O)."""
        return np.array([[self.of_block(b, o, width) for o, width in enumerate(row)] for b, row in enumerate(widths)])
