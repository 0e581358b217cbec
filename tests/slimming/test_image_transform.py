"""How images become inputs: exactly as the library does, as the user says, or an error; never a guess."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming.image_transform import image_transform

CIFAR = {"size": (32,), "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.5)}


def photo(height: int = 90, width: int = 120, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_torchvisions_own():
    from torchvision.models import ResNet50_Weights

    own = image_transform("torchvision.resnet50")
    assert own.shape == (3, 224, 224) and "as torchvision's ResNet50_Weights.IMAGENET1K_V2 has it" in own.said
    assert "short side to 232, centre of 224x224; mean 0.485 0.456 0.406, std 0.229 0.224 0.225" in own.said
    assert torch.equal(own(photo()), ResNet50_Weights.IMAGENET1K_V2.transforms()(photo()))


@pytest.mark.parametrize("name", ["test_resnet", "hrnet_w18", "resnet18.a1_in1k", "deit_tiny_patch16_224"])
def test_timms_own(name):
    timm = pytest.importorskip("timm")
    settings = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    own = image_transform(f"timm.{name}")
    assert own.shape == settings["input_size"] and f"timm's pretrained_cfg of {name.split('.')[0]}." in own.said
    assert torch.equal(own(photo()), timm.data.create_transform(**settings)(photo()))
    assert ("mean 0.485" in own.said) == (settings["mean"][0] == 0.485)


def test_what_is_given_takes_its_place():
    own = image_transform("torchvision.resnet18")
    other = image_transform("torchvision.resnet18", mean=CIFAR["mean"])
    assert "has it, but for --mean" in other.said and "mean 0.5 0.4 0.3, std 0.229" in other.said
    shift = (torch.tensor([0.485, 0.456, 0.406]) - torch.tensor(CIFAR["mean"])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(other(photo()), own(photo()) + shift[:, None, None])
    assert image_transform("torchvision.resnet18", size=(64, 96)).shape == (3, 64, 96)


def test_given_alone_images_of_the_size_are_taken_as_they_are():
    given = image_transform(None, **CIFAR)
    pixels = torch.from_numpy(np.array(photo(32, 32))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(CIFAR[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(given(photo(32, 32)), (pixels - mean) / std)
    for height, width in ((90, 33), (20, 300), (32, 31)):
        assert given(photo(height, width)).shape == (3, 32, 32)


def test_numbers_above_1_are_of_pixels_up_to_255():
    of_255 = image_transform(None, (32,), (127.5, 102, 76.5), (63.75, 51, 127.5))
    torch.testing.assert_close(of_255(photo()), image_transform(None, **CIFAR)(photo()))
    assert of_255.said == image_transform(None, **CIFAR).said


def test_channels_follow_the_mean():
    gray = image_transform(None, (32,), (0.5,), (0.5,))
    assert gray.shape == (1, 32, 32) and gray(photo()).shape == (1, 32, 32)
    assert image_transform(None, **CIFAR)(photo(mode="L")).shape == (3, 32, 32)
    assert image_transform(None, **CIFAR)(photo(mode="P")).shape == (3, 32, 32)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_of_16_bits_the_high_byte_is_read(kind, tmp_path):
    pixels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(pixels).save(tmp_path / f"deep.{kind}")
    with Image.open(tmp_path / f"deep.{kind}") as image:
        found = image_transform(None, (32,), (0.5,), (0.5,))(image)
    assert np.array_equal(np.rint((found[0].numpy() / 2 + 0.5) * 255), pixels >> 8)


def test_nothing_says_what_is_white_in_32_bits():
    with pytest.raises(ValueError, match="have 32 bits"):
        image_transform(None, **CIFAR)(Image.fromarray(np.zeros((32, 32), np.float32)))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("my_net.MyNet", {}, "of my_net.MyNet is not known: give --size, --mean, --std"),
        (None, {"size": (32,), "std": (1, 1, 1)}, "of the network is not known: give --mean"),
        ("timm.coatnet_0_224", {}, "of timm.coatnet_0_224 is not known: give --size, --mean, --std"),
        (None, {**CIFAR, "size": (0,)}, "--size=0: give a whole number from 1 to 8192"),
        (None, {**CIFAR, "size": (99_999_999,)}, "--size=99999999: give a whole number from 1 to 8192"),
        (None, {**CIFAR, "size": (1, 2, 3)}, "give H, or H W"),
        (None, {**CIFAR, "std": (0, 1, 1)}, "--std=0: give a number above 0"),
        (None, {**CIFAR, "mean": (0.5, 0.5)}, "--mean has 2 numbers: give 1 of gray images, or 3"),
        (None, {**CIFAR, "mean": (float("nan"), 0, 0)}, "--mean=nan"),
        (None, {**CIFAR, "mean": (0.5,)}, "--mean has 1 numbers, --std 3: give as many"),
        ("torchvision.resnet18", {"mean": (0.5,)}, "give both"),
    ],
)
def test_nothing_is_guessed(name, given, message):
    if name and name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(UserError, match=message):
        image_transform(name, **given)
