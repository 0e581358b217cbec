"""One subnet of a larger model as a file of its own: what split and the search write.

Before a file gets its name, it is read back and its logits are compared with those of the subnet inside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_lite import __version__
from mmrazor_lite.errors import UserError
from mmrazor_lite.export.rebuild import carried, is_rebuildable
from mmrazor_lite.export.subnet_loading import load_subnet
from mmrazor_lite.models.algorithms.construct import build_architecture
from mmrazor_lite.models.algorithms.preprocessing import preprocessing
from mmrazor_lite.models.classifiers import main_logits, offline, plain_module
from mmrazor_lite.subnet import Subnet, subnet_document

TOLERANCE = 1e-5  # of float32 logits, relative to the largest of them or to 1


@dataclass(frozen=True)
class Extract:
    """A subnet taken out of a larger model.

    Attributes:
        module: The plain network in eval mode, on the CPU.
        content: What its file holds: the weights, and what they are.
        costs: macs, flops, params and memory, unscaled.
        images: Seeded images (2, C, H, W).
        expected: Their logits, computed inside the larger model.
    """

    module: nn.Module
    content: dict[str, Any]
    costs: dict[str, int]
    images: Tensor
    expected: Tensor


def extract(algorithm: nn.Module, subnet: Subnet, score: Mapping[str, Any] | None = None) -> Extract:
    """Take ``subnet`` out of an algorithm in eval mode, which is left with it active.

    Args:
        algorithm: A supernet or a joint model.
        subnet: One that it holds.
        score: Metrics of the subnet that the file shall carry.
    """
    algorithm.mutator.activate(subnet)
    module = plain_module(algorithm.mutator.export(subnet)).cpu()
    module.eval()  # some backbones return None from it
    images, expected = _probe(algorithm)
    costs = algorithm.mutator.cost_model.of(subnet)
    meta = {"mmrazor_lite": _meta(algorithm, subnet, costs, score)}
    return Extract(module, {"state_dict": module.state_dict(), "meta": meta}, costs, images, expected)


def read_back(algorithm: nn.Module, path: Path, module: nn.Module) -> nn.Module:
    """Load a written file as a user will; where nothing tells how to build the network, return ``module`` itself."""
    architecture = algorithm.config["architecture"]
    if architecture is None or is_rebuildable(architecture):
        return module if architecture is None else load_subnet(path)
    return load_subnet(path, build_architecture(architecture, algorithm.config["data_preprocessor"]))


@torch.no_grad()
def compare(load: Callable[[], nn.Module], found: Extract, path: Path) -> None:
    """Compare the logits of what ``load`` returns with those of the subnet inside the larger model.

    Raises:
        UserError: They differ; ``path`` is the file that will not be written.
    """
    difference = (main_logits(load()(found.images)) - found.expected).abs().max().item()
    allowed = TOLERANCE * max(1.0, found.expected.abs().max().item())
    if not difference <= allowed:
        raise UserError(
            f"{path}: not written, its logits differ from those inside the larger model by {difference:.3g} "
            f"(allowed {allowed:.3g}); are the weights finite?"
        )


def _meta(
    algorithm: nn.Module, subnet: Subnet, costs: Mapping[str, int], score: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "version": __version__,
        "kind": "subnet",
        "space": algorithm.search_space.fingerprint,
        "subnet": subnet_document(subnet, algorithm.search_space, resources=costs, score=score),
        "resources": dict(costs),
        "architecture": carried(offline(algorithm.config["architecture"])),
        **{key: carried(algorithm.config[key]) for key in ("mutator", "data_preprocessor")},
        "input_shape": list(algorithm.input_shape),
        **({} if algorithm.computation is None else {"computation": algorithm.computation}),
        "preprocessing": preprocessing(algorithm.data_preprocessor),
        **({} if algorithm.data is None else {"data": algorithm.data}),
    }


@torch.no_grad()
def _probe(algorithm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return seeded images (2, C, H, W) and their logits by the active subnet, on the CPU."""
    channels, *size = algorithm.input_shape
    size = [algorithm.resolution] * 2 if algorithm.resolution else size
    images = torch.randn((2, channels, *size), generator=torch.Generator().manual_seed(0))
    parameter = next(algorithm.parameters())
    return images.to(parameter.dtype), algorithm(images.to(parameter), mode="tensor").cpu()
