"""A network that was slimmed: the module, its subnet, the report, and the files of all of them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite import __version__
from mmrazor_lite.checkpoints import checkpoint_hash, read_checkpoint, save_checkpoint, state_dict_of
from mmrazor_lite.errors import UserError
from mmrazor_lite.export.portable import export_pt2, read_pt2
from mmrazor_lite.fileio import FileSet, as_path, check_outputs
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.note import note
from mmrazor_lite.subnet import Subnet, write_document
from mmrazor_lite.visualization.page_file import write_page

from .origin import Origin, carried_architecture
from .report import Report
from .slim_page import slim_page

FILES = {
    ".pth": "the weights: mmrazor_lite.load_subnet reads them",
    ".pt2": "the network as a program of torch.export, for torch alone",
    ".yaml": "the subnet: what stayed of every group",
    "_report.json": "everything that was measured, as data",
}
PAGE = "_report.html"
SUFFIXES = (*FILES, PAGE)
TOLERANCE = 1e-5  # of the outputs of a .pt2, relative to the largest of them or to 1


@dataclass(frozen=True, eq=False)
class Slimmed:
    """A network that was slimmed.

    Attributes:
        model: A plain module of the original's class, in eval mode, with tensors of its own.
        subnet: Group -> channels that stayed.
        report: Everything that is told of it.
        mutator: Of the original, its channels sorted: what space the subnet is of, and what subnets cost.
        architecture: Config that builds that network, such as ``{'type': 'torchvision.resnet18'}``; with it, files are
            read without a module being given. None of a network that only code builds.
    """

    model: nn.Module
    subnet: Subnet
    report: Report
    mutator: OneShotChannelMutator
    architecture: Mapping[str, Any] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.mutator.input_shape)

    def __repr__(self) -> str:
        """One line: what it holds is long."""
        return f"Slimmed({self.report.told}; .model, .report.table(), .save('small'))"

    def save(self, path: str | os.PathLike, page: str | os.PathLike | None = None, command: str = "") -> list[Path]:
        """Write ``small.pth``, ``small.pt2``, ``small.yaml``, ``small_report.json`` and the page ``small_report.html``.

        Each is read back or run and compared before the first one gets its name. A ``.pt2`` of code that a trace does
        not hold cannot be written, which is said in one line. The page comes last and costs nothing of the others.

        Args:
            path: Name of the files without an ending, such as ``"small"``.
            page: Another place for the page, such as ``W/report.html``; its data is then beside it.
            command: That made the result, for the page.

        Returns:
            The files, in this order, without those that cannot be.

        Raises:
            UserError: A file cannot be written, or says something else than the network when it is read back; all files
                of before are kept.
        """
        weights, programme, widths, data, own = _targets(path)
        shown = own if page is None else Path(page)
        check_outputs([weights, programme, widths, data, shown])
        origin = Origin.of(self.mutator)
        twin = copy.deepcopy(self.model).cpu()
        twin.eval()  # some backbones return None from it
        with FileSet() as files:
            # The old .pth goes first, the new one comes last: where it stands, all others are of the same network.
            for old in (weights, shown):
                files.replace(old)
            drafts = {target: files.new(target) for target in (programme, widths, data, weights)}
            self._write_weights(drafts[weights], twin, origin, weights)
            made_by = {"tool": "slim", "asked": self.report.asked, "weights": checkpoint_hash(drafts[weights])}
            costs = self.report.costs["slimmed"]
            score = {} if not self.report.stages else _score(self.report.stages[-1])
            document = origin.document(self.subnet, costs, score, {**made_by, "version": __version__})
            write_document(drafts[widths], document)
            drafts[data].write_text(json.dumps(self.report.as_dict(), indent=1) + "\n", encoding="utf-8")
            try:
                _write_programme(drafts[programme], twin, self.input_shape)
            except UserError as error:
                note(f"no {programme.name}: {error}", 30)
                files.without(programme)
        whole = [target for target in (weights, programme, widths, data) if target.is_file()]
        what = dict(zip((weights, programme, widths, data), FILES.values(), strict=True))
        told = [(os.path.relpath(target, shown.parent), what[target]) for target in whole]
        return [*whole, *write_page(shown, slim_page(self.report, command, told), data=page is not None)]

    def _write_weights(self, draft: Path, twin: nn.Module, origin: Origin, path: Path) -> None:
        """Write the weights with what they are, and read them back."""
        costs, architecture = self.report.costs["slimmed"], carried_architecture(self.architecture)
        meta = origin.meta(self.subnet, costs, twin, architecture)
        save_checkpoint({"state_dict": twin.state_dict(), "meta": meta}, draft)
        found, own = state_dict_of(read_checkpoint(draft), draft), twin.state_dict()
        wrong = [name for name in own if name not in found or not _same(own[name], found[name])]
        if wrong or len(found) != len(own):
            raise UserError(f"{path}: not written, '{(wrong or list(found))[0]}' is another when it is read back")


def _targets(path: str | os.PathLike) -> list[Path]:
    """The files by the name they have in common."""
    folder, path = str(path), as_path(path, "save: path")
    if path.is_dir():
        raise UserError(f"save({folder!r}) is a folder: give a name for the files, such as {str(path / 'small')!r}")
    ending = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")
    stem = path.name.removesuffix(ending)
    if not stem or path.name in (".", "..") or folder.endswith(("/", os.sep)):
        raise UserError(f"save({folder!r}): give a name for the files, such as {str(path / 'small')!r}")
    return [path.with_name(stem + suffix) for suffix in SUFFIXES]


def _score(stage: Any) -> dict[str, float]:
    """What the subnet's file says of how good it is."""
    named = {"accuracy": stage.accuracy, "agreement": stage.agreement, "distance": stage.distance}
    return {name: value for name, value in named.items() if value is not None and abs(value) != float("inf")}


def _write_programme(draft: Path, twin: nn.Module, input_shape: Sequence[int]) -> None:
    """Write the program of ``torch.export``, run it and compare every output."""
    export_pt2(twin, draft, input_shape)
    programme = read_pt2(draft)
    like = next((tensor for tensor in twin.parameters() if tensor.is_floating_point()), torch.zeros(()))
    images = torch.randn((2, *input_shape), generator=torch.Generator().manual_seed(0)).to(like.dtype)
    with torch.no_grad():
        pairs = list(zip(_tensors(twin(images)), _tensors(programme(images)), strict=True))
    worst = max((float((a - b).abs().max()) / max(1.0, float(b.abs().max())) for b, a in pairs if b.numel()), default=0)
    if not worst <= TOLERANCE:
        raise UserError(f"the program computes something else, by {worst:.3g} of its outputs")


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf.double() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _same(own: Tensor, found: Tensor) -> bool:
    """Bit for bit."""
    return own.dtype == found.dtype and own.shape == found.shape and torch.equal(own, found)
