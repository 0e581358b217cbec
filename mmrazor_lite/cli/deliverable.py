"""What a command delivers: the network of a file, of a config or by its name, and how images become its inputs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import require_file

from .command_images import images_of
from .trained_network import TrainedNetwork, by_name, of_config

if TYPE_CHECKING:
    from torch import nn

    from mmrazor_lite.delivery import Normalisation
    from mmrazor_lite.slimming.image_transform import ImageTransform

SUBNETS = (".yaml", ".yml")


@dataclass(frozen=True)
class Deliverable:
    """A network, and what is known of it.

    Attributes:
        network: With its name in torchvision or timm, and its config, where it has them.
        source: What it is of, for the card.
        shape: (C, H, W) of one image; None where nothing says it.
        normalisation: None where nothing says it.
        original: The network of full size that it was made of, with other weights; None where only code builds it.
    """

    network: TrainedNetwork
    source: str
    shape: tuple[int, ...] | None = None
    normalisation: Normalisation | None = None
    original: nn.Module | None = None


def find(args: argparse.Namespace) -> Deliverable:
    """Build what a command names.

    Args:
        args: ``file`` (weights of a subnet, its YAML file beside them, or a config), ``model``, ``weights``,
            ``cfg_options``, ``size``, ``mean``, ``std``, ``seed``.

    Raises:
        UserError: There is none, or its weights are of another network.
    """
    if args.file is None and args.model is None:
        raise UserError("export: give a file that split, slim, search or train wrote, a config, or --model NAME")
    if args.weights is not None:
        require_file(args.weights, "--weights")
    if args.file is not None and not args.file.endswith(".py"):
        return _with_flags(_of_file(args), args)
    if args.file is not None:
        if args.model is not None:
            raise UserError("export: give a config or --model NAME, not both")
        network = of_config(args.file, args.weights, args.cfg_options)
    else:
        network = by_name(args.model, args.weights, args.cfg_options, args.seed)
    steps = _of_config(network.preprocessor) if network.preprocessor else None
    shape = _shape_of(network.cfg) if network.cfg is not None else None
    weights = f" with {Path(args.weights).name}" if args.weights else ""
    return _with_flags(Deliverable(network, f"{network.title}{weights}", shape, steps), args)


def images(
    found: Deliverable, folder: str, args: argparse.Namespace, count: int, flag: str
) -> tuple[Iterable[Any], list[str]]:
    """Batches of a folder as the network takes them, and lines for people.

    Args:
        found: The network.
        folder: Of images.
        args: As for :func:`find`, and ``skip_unreadable``.
        count: How many are needed.
        flag: What names the folder, for errors.

    Raises:
        UserError: There are none, or nothing says how the network reads them.
    """
    given = argparse.Namespace(data=folder, images=count, tune=None, config=args.file, seed=args.seed)
    given.skip_unreadable = args.skip_unreadable
    if found.network.cfg is None:
        vars(given).update(_reading(found, args))
    else:  # its pipeline, unless there are flags
        vars(given).update({key: getattr(args, key) for key in ("size", "mean", "std")})
    batches, notes = images_of(found.network, given, flag)
    swapped = found.network.cfg is None and found.normalisation is not None and found.normalisation.channels == "BGR"
    return (_Swapped(batches) if swapped else batches), notes


class _Swapped:
    """Batches with the order of the channels turned round."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        for batch in self.batches:
            if isinstance(batch, (tuple, list)):
                yield (batch[0].flip(1), *batch[1:])
            else:
                yield batch.flip(1)


def _of_file(args: argparse.Namespace) -> Deliverable:
    """The subnet of a file of ours."""
    from mmrazor_lite.checkpoints import read_checkpoint
    from mmrazor_lite.export import load_subnet
    from mmrazor_lite.export.subnet_loading import full_network, subnet_meta

    if args.weights is not None:
        raise UserError(f"--weights is for a config or --model alone: '{args.file}' holds its own")
    path = _weights_beside(require_file(args.file, "file"))
    meta = subnet_meta(read_checkpoint(path), str(path))
    given = None if args.model is None else by_name(args.model, None, args.cfg_options, args.seed).module
    module = load_subnet(path, model=given)
    if given is None:
        original = full_network(path)
    else:
        original = by_name(args.model, None, args.cfg_options, args.seed).module
    network = TrainedNetwork(module, type(module).__name__, _library_name(meta.get("architecture")))
    title = network.name or args.model or network.title
    steps = _of_config(meta.get("preprocessing"))
    shape = tuple(meta["input_shape"])
    return Deliverable(replace(network, title=title), f"{title}, {path.name}", shape, steps, original)


def _weights_beside(path: Path) -> Path:
    """The weights of a subnet file: those of its name, written with it."""
    if path.suffix not in SUBNETS:
        return path
    weights = path.with_suffix(".pth")
    if not weights.is_file():
        raise UserError(
            f"{path} says which subnet, and there are no weights of it beside ({weights.name}): give the file that "
            "slim, search, split or extract wrote"
        )
    return weights


def _library_name(architecture: Any) -> str | None:
    """The name in torchvision or timm of the network that a carried config builds."""
    from mmrazor_lite.network_names import library_of

    net = architecture.get("net", architecture) if isinstance(architecture, Mapping) else {}
    kind = net.get("type") if isinstance(net, Mapping) else None
    return kind if isinstance(kind, str) and library_of(kind) else None


def _of_config(said: Any) -> Normalisation | None:
    """What a data preprocessor does, by its config or by what a file says of it: of pixels from 0 to 255."""
    from mmrazor_lite.delivery import Normalisation

    if not isinstance(said, Mapping) or not said.get("mean") or not said.get("std"):
        return None
    mean, std = (tuple(float(value) / 255 for value in said[key]) for key in ("mean", "std"))
    swapped = said.get("to_rgb", said.get("bgr_to_rgb", False))
    order = "gray" if len(mean) == 1 and not swapped else "RGB" if swapped else "BGR"
    return Normalisation(mean, std, order, "As its config prepares images")


def _shape_of(cfg: Any) -> tuple[int, ...] | None:
    """The size of images that a config says."""
    places = [cfg.get("input_shape"), (cfg.get("model") or {}).get("input_shape")]
    return next((tuple(found)[-3:] for found in places if found), None)


def _reading(found: Deliverable, args: argparse.Namespace) -> dict[str, Any]:
    """Size, mean and std of a folder's images: those of the flags, then those of the file, else the library's own."""
    size, mean, std, steps = args.size, args.mean, args.std, found.normalisation
    if size is None and found.shape is not None and len(found.shape) == 3:
        own = _transform(found.network.name, None, None, None)
        size = list(found.shape[1:]) if own is None or own.shape != found.shape else None
    if steps is not None and mean is None and std is None:
        times = (found.shape[0] if found.shape else 3) if len(steps.mean) == 1 else 1
        order = slice(None, None, -1 if steps.channels == "BGR" else 1)  # of the channels of an image that is read
        mean, std = ([*values[order]] * times for values in (steps.mean, steps.std))
    return {"size": size, "mean": mean, "std": std}


def _transform(name: str | None, size: Any, mean: Any, std: Any) -> ImageTransform | None:
    """What is known; None where something is neither given nor known."""
    from mmrazor_lite.slimming.image_transform import image_transform

    try:
        return image_transform(name, size, mean, std)
    except UserError:
        if mean is None and std is None:
            return None
        raise


def _with_flags(found: Deliverable, args: argparse.Namespace) -> Deliverable:
    """With what the flags say, then what the library of the network does."""
    from mmrazor_lite.delivery import Normalisation
    from mmrazor_lite.shapes import image_shape

    if args.size is not None:
        channels = found.shape[0] if found.shape else len(args.mean or "RGB")
        found = replace(found, shape=image_shape((channels, args.size[0], args.size[-1]), "--size"))
    told = args.mean is not None or args.std is not None
    if found.normalisation is not None and not told:
        return found
    transform = _transform(found.network.name, **_reading(replace(found, normalisation=None), args))
    if transform is None:
        return found
    order = "RGB" if len(transform.mean) == 3 else "gray"
    steps = Normalisation(transform.mean, transform.std, order, transform.said)
    return replace(found, shape=found.shape or transform.shape, normalisation=steps)
