"""The network that is delivered: a copy on the CPU in float32, what it takes and what it gives.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError, check_number, short
from mmrazor_lite.programs.program import output_names, plain_attention, prepared


@dataclass(frozen=True)
class Normalisation:
    """What is done to the pixels of an image before a network sees it.

    Attributes:
        mean, std: Of each channel, or one of all, of pixels from 0 to 1.
        channels: Their order: ``RGB``, ``BGR`` or ``gray``.
        said: Who says so, and how images are resized; for people.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str = "RGB"
    said: str = ""

    def check(self, channels: int) -> None:
        """Raise :class:`UserError` where the numbers are none of so many channels."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise UserError(f"{name} has {len(values)} numbers, an image {channels} channels: give as many, or one")
            for value in values:
                check_number(name, value, 0, 1e6, above=name == "std")


class _FromPixels(nn.Module):
    """Normalises pixels from 0 to 255, then runs the network."""

    def __init__(self, network: nn.Module, normalisation: Normalisation, dims: int) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
            shape = (1, len(values), *(1 for _ in range(dims - 1)))
            self.register_buffer(name, (torch.tensor(values, dtype=torch.float64) * 255).float().reshape(shape))

    def forward(self, images: Tensor) -> Any:
        return self.network((images - self.mean) / self.std)


@dataclass(frozen=True, eq=False)
class Network:
    """A network to be delivered.

    Attributes:
        module: Plain, in eval mode, on the CPU, in float32; takes images (N, C, H, W).
        shape: (C, H, W) of one image.
        title: What it is called.
        outputs: A name for each output.
        normalisation: What images must go through; None where nobody says.
        inside: Whether the module does that itself, of pixels from 0 to 255.
        opset: Of ONNX; None: what the exporter is made for.
    """

    module: nn.Module
    shape: tuple[int, ...]
    title: str
    outputs: tuple[str, ...]
    normalisation: Normalisation | None = None
    inside: bool = False
    opset: int | None = None

    @staticmethod
    def of(
        model: nn.Module, shape: Sequence[int], title: str, normalisation: Normalisation | None, inside: bool
    ) -> Network:
        """Copy a module.

        Raises:
            UserError: It is none, does not run on images of this shape, or gives something else than tensors.
        """
        if not isinstance(model, nn.Module):
            raise UserError(f"deliver: model={short(model)}: give a module of torch")
        if normalisation is not None:
            normalisation.check(shape[0])
        elif inside:
            raise UserError("the normalisation cannot be put inside: nothing says which it is; give mean and std")
        module = copy.deepcopy(model).cpu().float()
        module.eval()  # some backbones return None from it
        if inside:
            module = _FromPixels(module, normalisation, len(shape)).eval()
        _, images = prepared(module, shape)
        with torch.no_grad(), plain_attention():
            names = output_names(module(images))
        return Network(module, tuple(shape), title, names, normalisation, inside)

    def with_module(self, model: nn.Module) -> Network:
        """Another network on the same images."""
        return replace(Network.of(model, self.shape, self.title, self.normalisation, self.inside), opset=self.opset)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """What the module itself gives, every output as float32 or as the integers that it is of."""
        with torch.inference_mode():
            return [output.numpy() for output in tree_leaves(self.module(torch.from_numpy(images)))]

    def taken(self, images: Tensor) -> np.ndarray:
        """Normalised images as this network takes them."""
        images = images.detach().cpu().float()
        if self.inside:
            module = self.module
            images = images * module.std + module.mean
        return np.ascontiguousarray(images.numpy())

    @property
    def metadata(self) -> dict[str, str]:
        """What files say of the images that they take, as text."""
        found = {"input_shape": json.dumps(["batch", *self.shape]), "producer": "mmrazor_lite"}
        if self.normalisation is None:
            return found
        steps = self.normalisation
        of = {"mean": steps.mean, "std": steps.std}
        return {
            **found,
            **{key: json.dumps(list(values)) for key, values in of.items()},
            "channels": steps.channels,
            "pixels": "0..255, normalised inside" if self.inside else "0..1, (pixel - mean) / std outside",
        }
