"""Files that run without this project: equal to the module for any batch size, or refused in one line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.export import export_onnx, export_pt2

SHAPE = (3, 16, 16)


class Tokens(nn.Module):
    """Patches to tokens, ``mix``, and a classifier."""

    def __init__(self, mix: nn.Module) -> None:
        super().__init__()
        self.patches, self.mix, self.fc = nn.Conv2d(3, 16, 4, 4), mix, nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        attends = isinstance(self.mix, nn.MultiheadAttention)
        mixed = self.mix(tokens, tokens, tokens, need_weights=False)[0] if attends else self.mix(tokens)
        return self.fc(mixed.mean(1))


def vit() -> nn.Module:
    sizes = {"image_size": 16, "patch_size": 4, "hidden_dim": 16, "mlp_dim": 32}
    return torchvision.models.VisionTransformer(num_layers=1, num_heads=2, num_classes=5, **sizes)


ATTENTION = {
    "a layer": lambda: Tokens(nn.MultiheadAttention(16, 4, batch_first=True)),
    "an encoder": lambda: Tokens(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)),
    "a vision transformer": vit,
}


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x.flatten(2))


class Singular(Head):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum()

    def forward(self, x):
        return self.fc(self.spectrum(x))


class Branch(Head):
    def forward(self, x):
        return self.fc(x.mean((2, 3))) * (2 if x.mean() > 0 else 1)


class TwoImages(Head):
    def forward(self, x):
        return self.fc(x.reshape(int(x.shape[0]), 3, -1).mean(2))


class Text(Head):
    def forward(self, x):
        return {"logits": self.fc(x.mean((2, 3))), "name": "text"}


class Fails(Head):
    def forward(self, x):
        raise ValueError("this network\nruns nowhere")


REFUSED = {
    Branch: "line .*x.mean.* of test_portable.py:.*a Python value is made of a tensor's values",
    TwoImages: r"fixes the number of images; take it from the tensor, as in x.flatten\(1\)",
    Text: "it returns Tensor, str; wrap it in a module that returns a tensor, or a tuple, list or dict of tensors",
    Fails: "Fails cannot run on images of 3x16x16: ValueError: this network runs nowhere",
}


def needs_onnx():
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def assert_refused(write, build, path, message, capfd) -> None:
    with pytest.raises(UserError, match=message) as error:
        write(build().eval(), path, SHAPE)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "") and not list(path.parent.iterdir())


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_as_onnx(name, tmp_path):
    runtime = needs_onnx()
    torch.manual_seed(0)
    module = ATTENTION[name]().eval()
    export_onnx(module, tmp_path / "a.onnx", SHAPE)
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = torch.randn(count, *SHAPE)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        assert np.abs(logits - module(images).detach().numpy()).max() < 1e-5
    assert torch.backends.mha.get_fastpath_enabled()


def test_attention_as_a_program(tmp_path):
    torch.manual_seed(0)
    module = ATTENTION["an encoder"]().eval()
    export_pt2(module, tmp_path / "a.pt2", SHAPE)
    program, images = torch.export.load(tmp_path / "a.pt2"), torch.randn(3, *SHAPE)
    torch.testing.assert_close(program.module()(images), module(images))
    ops = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("encoder" in op or "multi_head" in op for op in ops)  # torch's fused forms, not meant for files


@pytest.mark.parametrize("build", REFUSED)
def test_what_is_no_program_is_refused_in_one_line(build, tmp_path, capfd):
    assert_refused(export_pt2, build, tmp_path / "a.pt2", REFUSED[build], capfd)


@pytest.mark.parametrize("build", REFUSED)
def test_what_is_no_onnx_is_refused_in_one_line(build, tmp_path, capfd):
    needs_onnx()
    assert_refused(export_onnx, build, tmp_path / "a.onnx", REFUSED[build], capfd)


def test_an_op_that_onnx_lacks_is_named_and_the_advice_works(tmp_path, capfd):
    needs_onnx()
    message = (
        "Singular cannot be exported as ONNX: spectrum: ONNX has no operator for 'aten::_linalg_svd'; use its .pt2"
    )
    assert_refused(export_onnx, Singular, tmp_path / "a.onnx", message, capfd)
    module = Singular().eval()
    export_pt2(module, tmp_path / "a.pt2", SHAPE)
    images = torch.randn(3, *SHAPE)
    torch.testing.assert_close(torch.export.load(tmp_path / "a.pt2").module()(images), module(images))


FULL = """
import sys
sys.path.append("tests")
from disks import at_most
from torch import nn
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import export_pt2

net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 200)).eval()
for size in (100, 30_000):
    try:
        with at_most(size):
            export_pt2(net, sys.argv[1], (3, 16, 16))
    except UserError as error:
        assert "cannot be written (File too large); what was there before is kept" in str(error)
    else:
        raise SystemExit(f"{size} bytes were enough")
"""


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_keeps_what_was_there(tmp_path, root):
    """In a process of its own: what writes archives in torch would end it."""
    before = tmp_path / "net.pt2"
    before.write_bytes(b"of an earlier run")
    run = subprocess.run([sys.executable, "-c", FULL, str(before)], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-500:]
    assert before.read_bytes() == b"of an earlier run" and [path.name for path in tmp_path.iterdir()] == ["net.pt2"]
