"""What is delivered: files that compute what the network does, a card that loads them, or nothing and one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from disks import at_most
from torch import nn
from torch.nn import functional as F

from mmrazor_lite.delivery import Normalisation, Taken
from mmrazor_lite.delivery.model_card import words
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import deliver
from mmrazor_lite.programs.no_telemetry import without_telemetry

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (3, 12, 12)
QUICK = {"threads": 1, "count": 8, "example": SHAPE, "repeats": 2}


class Two(nn.Module):
    """A map and class scores, by name."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, width, 3), nn.Linear(width, 4)

    def forward(self, x):
        y = F.relu(self.conv(x))
        return {"map": y, "scores": self.fc(y.mean((2, 3)))}


class Scores(Two):
    def forward(self, x):
        return super().forward(x)["scores"]


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.mix(tokens, tokens, tokens, need_weights=False)[0].mean(1)


class Draws(Two):
    """Another result in every run."""

    def forward(self, x):
        return self.fc(F.dropout(self.conv(x).mean((2, 3)), training=True))


class OneImage(Two):
    def forward(self, x):
        return self.fc(self.conv(x).reshape(int(x.shape[0]), 8, -1).mean(2))


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x.flatten(2))


class Singular(Two):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.fc = Spectrum(), nn.Linear(3, 4)

    def forward(self, x):
        return self.fc(self.inner(x))


class Double(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x.double(), self.weight.double(), self.bias.double()).float()


class Exact(Two):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Double(3, 8, 3)

    def forward(self, x):
        return self.fc(self.inner(x).mean((2, 3)))


class Separable(nn.Module):
    """Wide enough that integers make it smaller; says which channel is the brightest."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3)
        self.fc = nn.Linear(64, 3)

    def forward(self, x):
        return x.mean((2, 3)) * 5 + self.fc(self.body(self.conv(x).relu()).relu().mean((2, 3)))


def separable(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % 3
    noise = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return noise + nn.functional.one_hot(labels, 3)[:, :, None, None], labels


NETWORKS = [pytest.param(Two, id="two outputs"), pytest.param(Attends, id="attention", marks=pytest.mark.wide)]
PACKAGES = {"pt2": (), "torchscript": (), "onnx": ("onnxscript", "onnxruntime"), "openvino": ("openvino",)}
FORMATS = list(PACKAGES)


def made(build, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build().eval()


def need(*formats: str) -> list[str]:
    """Skip without what they run in."""
    for package in (package for name in formats for package in PACKAGES[name]):
        present(package)
    return list(formats)


def present(package: str) -> None:
    with without_telemetry():
        pytest.importorskip(package, reason=f"{package} is not installed: pip install mmrazor_lite[deliver]")


def front(folder) -> dict:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def loaded(folder, images: np.ndarray) -> list[list[np.ndarray]]:
    """What the code of the card gives, of each file."""
    found = []
    for code in re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL):
        assert len(code.strip().splitlines()) <= 5
        names = {"images": images}
        exec(code.replace('"model', f'"{folder}/model'), names)
        outputs = names["outputs"]
        outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        found.append(
            [np.asarray(output.detach() if isinstance(output, torch.Tensor) else output) for output in outputs]
        )
    return found


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("build", NETWORKS)
def test_the_code_of_the_card_runs_every_file(format, build, tmp_path):
    model = made(build)
    done = deliver(model, tmp_path / "D", formats=need(format), **QUICK)
    images = torch.randn(5, *SHAPE)
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(model(images))
    (found,) = loaded(tmp_path / "D", images.numpy())
    assert len(found) == len(expected)
    for want, have in zip(expected, found, strict=True):
        np.testing.assert_allclose(have, want.numpy(), atol=1e-5)
    proof = done.proofs[format]
    assert proof.images == 8 and proof.difference < 1e-5 and proof.equal == proof.places > 0


def test_the_card_says_it_for_programs(tmp_path):
    steps = Normalisation((0.5,), (0.25,), said="as trained")
    done = deliver(
        made(Two), tmp_path / "D", formats=["pt2"], normalisation=steps, original=made(lambda: Two(16)),
        batch_sizes=[3], license="apache-2.0", source="a | b\nof mine", **QUICK,
    )  # fmt: skip
    card = front(tmp_path / "D")
    assert card["license"] == "apache-2.0"
    said = card["mmrazor_lite"]
    assert said["outputs"] == ["map", "scores"] and said["input"]["mean"] == [0.5]
    assert said["costs"]["delivered"]["macs"] * 2 == said["costs"]["before"]["macs"]
    rows = {(row["runtime"], row["network"], row["batch_size"]) for row in said["latency"]["rows"]}
    assert rows == {(r, n, b) for r in ("torch", "pt2") for n in ("delivered", "before") for b in (1, 3)}
    assert all(row["ms"] > 0 for row in said["latency"]["rows"])
    (file,) = said["files"]
    assert file["bytes"] == (tmp_path / "D" / file["file"]).stat().st_size and file["same_answer"] == 1
    assert not said["proof"]["real"] and "random" in said["proof"]["from"] and said["versions"]["torch"]
    text = (tmp_path / "D/README.md").read_text()
    assert "Made of a \\| b of mine; licence apache-2.0" in text
    assert done.time("pt2").median > 0 and [path.name for path in done.files[0].files] == ["model.pt2"]


@pytest.mark.parametrize("inside", [False, True])
def test_accuracy_is_counted_on_the_images_given(inside, tmp_path):
    model, (images, labels) = made(Separable), separable(60)
    labels = (labels + (torch.arange(60) % 5 == 0)) % 3  # some are wrong
    batches, steps = [(images[:37], labels[:37]), (images[37:], labels[37:])], Normalisation((0.1, 0.5, 0.9), (0.25,))
    done = deliver(
        model, tmp_path / "D", batches, formats=["pt2"], repeats=2, normalisation=steps, inside=inside, threads=1
    )
    with torch.no_grad():
        right = float((model(images).argmax(1) == labels).float().mean())
    assert done.proofs["pt2"].images == 60
    assert done.proofs["pt2"].accuracy == pytest.approx(right) == done.proofs["torch"].accuracy
    assert front(tmp_path / "D")["mmrazor_lite"]["files"][0]["accuracy"] == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize("format", ["pt2", *(pytest.param(name, marks=pytest.mark.wide) for name in FORMATS[1:])])
def test_normalisation_inside(format, tmp_path):
    model, steps = made(Scores), Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    pixels = torch.randint(256, (4, *SHAPE)).float()
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (steps.mean, steps.std))
    deliver(model, tmp_path / "D", formats=need(format), normalisation=steps, inside=True, **QUICK)
    (found,) = loaded(tmp_path / "D", pixels.numpy())
    with torch.no_grad():
        expected = model((pixels / 255 - mean) / std)
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-4)


def test_onnx_says_what_it_takes(tmp_path):
    need("onnx")
    import onnx

    deliver(made(Two), tmp_path / "D", formats=["onnx"], normalisation=Normalisation((0.5,), (0.25,)), **QUICK)
    model = onnx.load(tmp_path / "D/model.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["mean"] == "[0.5]" and said["std"] == "[0.25]" and said["channels"] == "RGB"
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["map", "scores"]
    sizes = [value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output)]
    assert sizes == ["batch"] * 3
    assert str(tmp_path) not in str(model) and "test_deliver.py" not in str(model)


@pytest.mark.parametrize(
    ("build", "options", "line"),
    [
        (Draws, {}, "pt2: not written: on 8 images its outputs differ by .* more than 0.0001"),
        (OneImage, {}, "its code fixes the number of images"),
        (
            OneImage,
            {"formats": ["torchscript"]},
            r"torchscript: its outputs have the shapes \[\(2, 4\)\], .* \[\(1, 4\)\]",
        ),
        (Two, {"formats": ["pt3"]}, r"format 'pt3' is unknown \(did you mean 'pt2'\?\)"),
        (Two, {"formats": ["pt2", "pt2"]}, "format 'pt2' is given twice"),
        (Two, {"formats": []}, "give a list of them"),
        (Two, {"inside": True}, "nothing says which it is; give mean and std"),
        (Two, {"normalisation": Normalisation((0.5,) * 4, (1.0,))}, "mean has 4 numbers, an image 3 channels"),
        (Two, {"example": None}, r"give images, or example=\(3, 224, 224\)"),
        (Two, {"images": []}, "images: it yields no image"),
        (Two, {"images": [torch.full((2, *SHAPE), torch.nan)]}, "image 0 holds what is no finite number"),
        (Two, {"repeats": 1}, "repeats=1: give a whole number of 2 or more"),
        (Two, {"int8": True}, "int8 needs images .* --calibrate DIR"),
        (Two, {"calibrate": torch.zeros(2, *SHAPE)}, "int8 is not asked for; give both"),
        (Two, {"int8": True, "calibrate": torch.zeros(2, *SHAPE)}, "int8 is for the formats onnx and openvino"),
        (Two, {"count": 0}, "count=0: give a whole number"),
        (Two, {"batch_sizes": [0]}, "batch_sizes=0"),
    ],
)
def test_what_cannot_be_leaves_nothing(build, options, line, tmp_path):
    with pytest.raises(UserError, match=line) as error:
        deliver(made(build), tmp_path / "D", **{"formats": ["pt2"], **QUICK, **options})
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_openvino_says_what_it_takes(tmp_path):
    need("openvino")
    import openvino

    deliver(made(Two), tmp_path / "D", formats=["openvino"], normalisation=Normalisation((0.5,), (0.25,)), **QUICK)
    model = openvino.Core().read_model(tmp_path / "D/model.xml")
    assert model.get_rt_info(["mmrazor_lite", "mean"]).value == "[0.5]"
    assert str(model.inputs[0].partial_shape) == "[?,3,12,12]" and model.inputs[0].any_name == "images"
    assert [output.any_name for output in model.outputs] == ["map", "scores"]


TOLD = """
import os, torch
from torch import nn
from mmrazor_lite.export import deliver

model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).eval()
images = torch.randn(8, 3, 8, 8)
deliver(model, "D", images, formats=["openvino"], int8=True, calibrate=images, repeats=2)
assert "CI" not in os.environ
"""


@pytest.mark.wide
def test_openvino_and_nncf_tell_nobody(tmp_path):
    """Their telemetry begins with a folder in the home of the user; within pytest it is silent anyway."""
    need("openvino")
    present("nncf")
    home = tmp_path / "home"
    home.mkdir()
    told = {key: value for key, value in os.environ.items() if key not in ("CI", "NNCF_CI")}
    told |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", TOLD], cwd=tmp_path, env=told, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-1000:]
    assert (tmp_path / "D/model_int8.xml").is_file() and "intel" not in [path.name for path in home.iterdir()]


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_operator_that_a_runtime_lacks_is_named_with_its_module(format, tmp_path):
    with pytest.raises(
        UserError, match=r"Singular cannot be .*: inner: .* no operator for 'aten.+_linalg_svd"
    ) as error:
        deliver(made(Singular), tmp_path / "D", formats=need(format), **QUICK)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


INT8 = {"onnx": "onnxscript", "openvino": "nncf"}


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.wide)])
def test_int8_is_written_beside_and_its_figures_said(format, tmp_path):
    need(format)
    present(INT8[format])
    model, images = made(Separable), separable(120)
    done = deliver(
        model, tmp_path / "D", images, formats=[format], int8=True, calibrate=separable(40, 1)[0],
        repeats=2, normalisation=Normalisation((0.5,), (0.25,)),
    )  # fmt: skip
    plain, small = (done.proofs[name] for name in (format, f"{format} int8"))
    assert plain.difference < 1e-5 < small.difference < 0.5  # other arithmetic, the same network
    assert small.agreement >= 0.9 and small.accuracy >= plain.accuracy - 0.1
    files = {file.precision: file for file in done.files}
    assert files["int8"].size < files["fp32"].size
    rows = front(tmp_path / "D")["mmrazor_lite"]["files"]
    assert [row["precision"] for row in rows] == ["fp32", "int8"]
    assert done.time(f"{format} int8").median > 0
    found = loaded(tmp_path / "D", images[0].numpy())
    assert (found[0][0].argmax(1) == found[1][0].argmax(1)).mean() == pytest.approx(small.agreement)
    rows = (Taken(format, "delivered", 1, (2.0,) * 3), Taken(f"{format} int8", "delivered", 1, (3.0,) * 3))
    assert list(words(replace(done, taken=rows))) == [
        f"int8 is slower than fp32 in {format} on this CPU at batch 1: 3 ms, fp32 2 ms"
    ]
    assert not list(words(replace(done, taken=[replace(rows[1], times=(1.0,) * 3), rows[0]])))
    if format == "onnx":
        assert_eight_bits(tmp_path / "D/model_int8.onnx", model)


def assert_eight_bits(path, model) -> None:
    """Weights of 8 bits with a scale for each channel, and the metadata of the file of float32."""
    import onnx

    graph = onnx.load(path)
    kinds = {tensor.name: tensor for tensor in graph.graph.initializer}
    weights = [t for t in kinds.values() if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert weights and all(np.prod(t.dims) for t in weights)
    scales = [n.input[1] for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == weights[0].name]
    assert list(kinds[scales[0]].dims) == [model.conv.out_channels]
    assert "mean" in {entry.key for entry in graph.metadata_props}


def test_an_operator_that_a_runtime_refuses_is_named_with_its_module(tmp_path):
    """onnxruntime has no convolution of 64 bits."""
    with pytest.raises(UserError, match="operator Conv of inner: .*node_conv2d") as error:
        deliver(made(Exact), tmp_path / "D", formats=need("onnx"), **QUICK)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        UserError, match=r"format 'onnx' needs the package 'onnx': pip install 'mmrazor_lite\[deliver\]'"
    ):
        deliver(made(Two), tmp_path / "D", formats=["onnx"], **QUICK)


def test_a_folder_that_holds_something(tmp_path):
    folder = tmp_path / "D"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    (folder / "model.onnx").write_text("of an earlier delivery")
    with pytest.raises(UserError, match="is not empty .*--force"):
        deliver(made(Two), folder, formats=["pt2"], **QUICK)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "model.onnx"]
    deliver(made(Two), folder, formats=["pt2"], force=True, **QUICK)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "mine.txt", "model.pt2"]
    assert (folder / "mine.txt").read_text() == "kept" and [path.name for path in tmp_path.iterdir()] == ["D"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_nothing(format, tmp_path):
    need(format)
    with pytest.raises(UserError, match="cannot be written .File too large"), at_most(1000):
        deliver(made(Two), tmp_path / "D", formats=[format], **QUICK)
    assert not list(tmp_path.iterdir())
