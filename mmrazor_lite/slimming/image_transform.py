"""From an image to what a network reads: as its library says, or as the user does. Nothing is guessed.

Letters: C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmrazor_lite.errors import UserError, check_number
from mmrazor_lite.network_names import library_name, library_of

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 8192  # of a side


@dataclass(frozen=True)
class ImageTransform:
    """Makes the input of a network of an image.

    Attributes:
        shape: (C, H, W) of what it gives; images are read with C channels, 1 or 3.
        said: What it does and who says so, in one line.
        mean, std: Of each channel, of pixels from 0 to 1.
        steps: Takes an image of C channels and gives a tensor of that shape.
    """

    shape: tuple[int, int, int]
    said: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    steps: Callable[[Image], Tensor] = field(repr=False, compare=False)

    def __call__(self, image: Image) -> Tensor:
        return self.steps(_of_8_bits(image).convert("RGB" if self.shape[0] == 3 else "L"))


def _of_8_bits(image: Image) -> Image:
    """The high byte of each number of 16 bits, as OpenCV reads it: Pillow would make all above 255 white.

    Raises:
        ValueError: Numbers of 32 bits, which have no white of their own.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in ("I", "F"):
        raise ValueError("its numbers have 32 bits, and nothing says which one is white; save it with 8 or 16")
    return image


@dataclass(frozen=True)
class _Own:
    """What a library says of the images that a network was trained with."""

    source: str
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    build: Callable[[Sequence[float], Sequence[float]], tuple[Callable[[Any], Tensor], str]]  # steps, what they do


def image_transform(
    name: str | None,
    size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageTransform:
    """The transform of a network of torchvision or timm, with what is given in its place; or of what is given alone.

    Args:
        name: Such as ``timm.resnet18``; its library says how its published weights read images, without a download.
        size: H, or H and W: images are resized until they cover it, and cropped around their centre.
        mean, std: Of each channel, of pixels from 0 to 1; where one is above 1, of pixels from 0 to 255.

    Raises:
        UserError: Something is neither given nor known, or is no size, mean or std.
    """
    size = None if size is None else _size(size)
    mean, std = _scaled(mean, std)
    own = None if name is None else _own(name)
    missing = [flag for flag, value in (("--size", size), ("--mean", mean), ("--std", std)) if value is None]
    if own is None and missing:
        raise UserError(
            f"how images become inputs of {name or 'the network'} is not known: give {', '.join(missing)}, as in its "
            "training (mean and std of each channel, of pixels from 0 to 1, or from 0 to 255)"
        )
    if own is None:
        return _given(size, mean, std, "bilinear", "as given")
    mean, std = own.mean if mean is None else mean, own.std if std is None else std
    if len(mean) != len(std):
        raise UserError(f"--mean and --std: {len(mean)} and {len(std)} numbers with those of {own.source}: give both")
    given = [flag for flag in ("--size", "--mean", "--std") if flag not in missing]
    source = f"as {own.source} has it{', but for ' + ', '.join(given) if given else ''}"
    if size is not None:
        return _given(size, mean, std, own.interpolation, source)
    steps, done = own.build(mean, std)
    said = _line(source, done, mean, std)
    return ImageTransform((len(mean), own.height, own.width), said, tuple(mean), tuple(std), steps)


def _own(name: str) -> _Own | None:
    return {"torchvision": _of_torchvision, "timm": _of_timm, None: lambda name: None}[library_of(name)](
        library_name(name)[1]
    )


def _of_torchvision(name: str) -> _Own | None:
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    preset = weights.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size

    def build(mean: Sequence[float], std: Sequence[float]) -> tuple[Callable[[Any], Tensor], str]:
        return weights.transforms(mean=tuple(mean), std=tuple(std)), f"short side to {resize}, centre of {crop}x{crop}"

    source = f"torchvision's {type(weights).__name__}.{weights.name}"
    return _Own(source, crop, crop, tuple(preset.mean), tuple(preset.std), preset.interpolation.value, build)


def _of_timm(name: str) -> _Own | None:
    import timm.data

    entry = timm.get_pretrained_cfg(name)
    if entry is None or not entry.has_weights:  # then its numbers are of no training
        return None
    settings = timm.data.resolve_data_config(pretrained_cfg=entry.to_dict())
    _, height, width = settings["input_size"]

    def build(mean: Sequence[float], std: Sequence[float]) -> tuple[Callable[[Any], Tensor], str]:
        steps = timm.data.create_transform(**{**settings, "mean": tuple(mean), "std": tuple(std)})
        crop = f"{settings['crop_mode']} crop of {settings['crop_pct']:g} to {height}x{width}"
        return steps, f"{crop}, {settings['interpolation']}"

    source = f"timm's pretrained_cfg of {entry.architecture or name}{'.' + entry.tag if entry.tag else ''}"
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    return _Own(source, height, width, mean, std, settings["interpolation"], build)


def _given(
    size: tuple[int, int], mean: Sequence[float], std: Sequence[float], interpolation: str, source: str
) -> ImageTransform:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    height, width = size
    known = {mode.value: mode for mode in InterpolationMode}
    mode = known.get(interpolation, InterpolationMode.BILINEAR)

    def steps(image: Image) -> Tensor:
        scale = max(height / image.height, width / image.width)
        if scale != 1:
            covering = (max(height, round(image.height * scale)), max(width, round(image.width * scale)))
            image = F.resize(image, list(covering), mode, antialias=True)
        return F.normalize(F.to_tensor(F.center_crop(image, [height, width])), list(mean), list(std))

    done = f"resized to cover {height}x{width}, its centre"
    return ImageTransform((len(mean), height, width), _line(source, done, mean, std), tuple(mean), tuple(std), steps)


def _line(source: str, done: str, mean: Sequence[float], std: Sequence[float]) -> str:
    numbers = (" ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    return "images {}: {}; mean {}, std {} of pixels from 0 to 1".format(source, done, *numbers)


def _size(size: Sequence[int]) -> tuple[int, int]:
    if not 1 <= len(size) <= 2:
        raise UserError(f"--size {' '.join(map(str, size))}: give H, or H W")
    for value in size:
        check_number("--size", value, 1, MOST_PIXELS, whole=True)
    return size[0], size[-1]


def _scaled(
    mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Both of pixels from 0 to 1."""
    for flag, values in (("--mean", mean), ("--std", std)):
        if values is not None and len(values) not in (1, 3):
            raise UserError(f"{flag} has {len(values)} numbers: give 1 of gray images, or 3 of red, green and blue")
        for value in values or ():
            check_number(flag, value, 0, 255, above=flag == "--std")
    if mean is not None and std is not None and len(mean) != len(std):
        raise UserError(f"--mean has {len(mean)} numbers, --std {len(std)}: give as many")
    scale = 255 if max((*(mean or ()), *(std or ())), default=0) > 1 else 1
    return tuple(None if values is None else tuple(float(value) / scale for value in values) for values in (mean, std))  # type: ignore[return-value]
