from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from disks import at_most

import mmrazor_lite
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import (
    export_onnx,
    load_subnet,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    split,
)
from mmrazor_lite.subnet import parse_document, read_subnet, write_subnet


def _images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def _joint_logits(joint, file):
    algorithm = joint.algorithm
    algorithm.eval()
    algorithm.mutator.activate(read_subnet(file, algorithm.search_space).subnet)
    return algorithm(_images(), mode="tensor")


def _assert_close(found, expected):
    assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


def test_parts_are_named_in_the_order_asked_for_and_matched_by_content(joint, parts):
    assert [path.name for path in parts] == ["checkpoint_1.pth", "checkpoint_2.pth", "checkpoint_3.pth"]
    logits = [_joint_logits(joint, file) for file in joint.files[::-1]]
    for path, expected in zip(parts, logits, strict=True):
        module = mmrazor_lite.load_subnet(path)
        with torch.no_grad():
            _assert_close(module(_images()), expected)
    assert not torch.allclose(logits[0], logits[1], rtol=1e-2)


def test_file_says_what_it_is(joint, parts):
    space, cost = joint.algorithm.search_space, joint.algorithm.mutator.cost_model
    for path, file in zip(parts, joint.files[::-1], strict=True):
        content = read_checkpoint(path)
        meta = content["meta"]["mmrazor_lite"]
        subnet = read_subnet(file, space).subnet
        assert meta["kind"] == "subnet" and meta["version"] == mmrazor_lite.__version__
        assert parse_document(meta["subnet"], space, "test").subnet == subnet
        assert meta["resources"] == meta["subnet"]["resources"] == cost.of(subnet)
        assert meta["input_shape"] == [3, 32, 32] and meta["data_preprocessor"]["num_classes"] == 5
        assert "init_cfg" not in meta["architecture"]["backbone"] and "train_cfg" not in meta["architecture"]
        assert not any(key.startswith("architecture") or ".bns." in key for key in content["state_dict"])


def test_file_holds_its_own_weights_only(parts):
    for path in parts:
        content = read_checkpoint(path)
        numbers = sum(tensor.numel() for tensor in content["state_dict"].values())
        trained = sum(p.numel() for p in load_subnet(path).parameters())
        assert content["meta"]["mmrazor_lite"]["resources"]["params"] == trained
        overhead = 400 * len(content["state_dict"]) + 20_000  # names, strides, alignment, the config
        assert path.stat().st_size < 4 * numbers + overhead


def test_loaded_module_has_no_class_of_ours(parts):
    module = load_subnet(parts[0])
    assert not [type(m) for m in module.modules() if type(m).__module__.startswith("mmrazor_lite")]
    assert not any(m.training for m in module.modules())


def test_loading_leaves_the_random_state(parts):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_subnet(parts[0])
    assert torch.equal(before, torch.get_rng_state())


def test_pt2_runs_with_torch_alone(joint, parts, tmp_path):
    torch.save(_images(), tmp_path / "images.pt")
    code = """
import sys
for name in ("mmengine", "mmcv", "mmpretrain", "mmrazor_lite"):
    sys.modules[name] = None  # importing it raises
import torch
images = torch.load(sys.argv[1])
for path in sys.argv[3:]:
    run = torch.export.load(path).module()
    torch.save([run(images), run(images[:1])], sys.argv[2] + path.rsplit("_", 1)[1])
"""
    files = [str(path.with_suffix(".pt2")) for path in parts]
    command = [sys.executable, "-c", code, str(tmp_path / "images.pt"), str(tmp_path / "logits_"), *files]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for index, file in enumerate(joint.files[::-1], start=1):
        three, one = torch.load(tmp_path / f"logits_{index}.pt2")
        expected = _joint_logits(joint, file)
        _assert_close(three, expected)
        _assert_close(one, expected[:1])


def test_model_that_fixes_its_batch_size_gets_no_pt2(joint, parts, tmp_path, monkeypatch):
    def refuse(*args):
        raise UserError("cannot be exported with a free batch size")

    monkeypatch.setattr(sys.modules["mmrazor_lite.export.splitting"], "export_pt2", refuse)
    (tmp_path / "checkpoint_1.pt2").write_text("of an earlier run")
    (path,) = split(joint.algorithm, joint.checkpoint, joint.files[2:], tmp_path)
    assert path.read_bytes() == parts[0].read_bytes()
    assert not path.with_suffix(".pt2").exists()


def test_onnx_gives_the_same_logits(joint, parts, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")
    export_onnx(load_subnet(parts[0]), tmp_path / "a.onnx", (3, 32, 32))
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": _images().numpy()})
    expected = _joint_logits(joint, joint.files[-1])
    assert np.abs(logits - expected.numpy()).max() <= 1e-4 * max(1, expected.abs().max())


def test_config_may_list_other_subnets_than_the_checkpoint(joint, make_algorithm, parts, tmp_path):
    """The norms belong to the subnets the checkpoint names, whatever the config lists."""
    reordered = make_algorithm(channel_cfg=[str(file) for file in (joint.files[2], joint.files[0])])
    (path,) = split(reordered, joint.checkpoint, joint.files[1:2], tmp_path)
    assert path.read_bytes() == parts[1].read_bytes()


def test_part_loads_strictly_into_the_static_model(joint, make_algorithm, parts):
    static = make_algorithm(channel_cfg=str(joint.files[2]))
    load_weights(static, read_checkpoint(parts[0]), parts[0])
    other = make_algorithm(channel_cfg=str(joint.files[0]))
    with pytest.raises(UserError, match="of another shape"):
        load_weights(other, read_checkpoint(parts[0]), parts[0])


def test_subnet_that_was_not_trained(joint, tmp_path):
    space = joint.algorithm.search_space
    write_subnet(tmp_path / "d.yaml", space.max(), space)
    with pytest.raises(UserError, match=r"d\.yaml: .*was not trained for this subnet.*it holds subnets of [\d,]+ macs"):
        split(joint.algorithm, joint.checkpoint, [joint.files[0], tmp_path / "d.yaml"], tmp_path / "out")
    with pytest.raises(UserError, match="give each once"):
        split(joint.algorithm, joint.checkpoint, [joint.files[0], joint.files[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["supernet", "subnet"])
def test_checkpoint_of_another_kind(joint, tmp_path, kind):
    content = read_checkpoint(joint.checkpoint)
    content["meta"]["mmrazor_lite"]["kind"] = kind
    save_checkpoint(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"holds a {kind} model, nothing to split"):
        split(joint.algorithm, tmp_path / "a.pth", joint.files, tmp_path / "out")


def test_weights_that_are_no_numbers_are_not_written(joint, tmp_path):
    content = read_checkpoint(joint.checkpoint)
    content["state_dict"]["architecture.head.fc.bias"][0] = float("nan")
    save_checkpoint(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: architecture\.head\.fc\.bias holds NaN"):
        split(joint.algorithm, tmp_path / "a.pth", joint.files[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_while_writing_leaves_the_files_before_it_and_runs_again(joint, parts, tmp_path):
    """A child dies in the middle of writing the second .pth; the first pair waits for it."""
    split(joint.algorithm, joint.checkpoint, joint.files[:2], tmp_path)
    before = contents(tmp_path)
    child = os.fork()
    if child == 0:  # no exec: the models are built already
        module = sys.modules["mmrazor_lite.export.splitting"]
        calls = []

        def save_or_die(content, path):
            calls.append(path)
            if len(calls) == 2:
                path.write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            save_checkpoint(content, path)

        module.save_checkpoint = save_or_die
        try:
            split(joint.algorithm, joint.checkpoint, joint.files[::-1], tmp_path)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(name.endswith(".tmp") for name in after.keys() - before.keys())
    again = split(joint.algorithm, joint.checkpoint, joint.files[::-1], tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in parts]
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_leaves_the_pairs_before(joint, tmp_path, monkeypatch):
    """Full while the second pair is written: neither is replaced."""
    split(joint.algorithm, joint.checkpoint, joint.files[:2], tmp_path)
    before = contents(tmp_path)
    module = sys.modules["mmrazor_lite.export.splitting"]
    saved = []

    def save(content, path):
        saved.append(path)
        with at_most(1000 if len(saved) == 2 else resource.RLIM_INFINITY):
            save_checkpoint(content, path)

    monkeypatch.setattr(module, "save_checkpoint", save)
    with pytest.raises(UserError, match=r"checkpoint_2\.pth cannot be written \(File too large\); what was"):
        split(joint.algorithm, joint.checkpoint, joint.files[::-1], tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["checkpoint_2.pt2", "checkpoint_1.pth"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(joint, tmp_path, name, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(sys.modules["mmrazor_lite.export.splitting"], "read_checkpoint", None)
    with pytest.raises(UserError, match=f"{name} is a folder, a file is to be written there"):
        split(joint.algorithm, joint.checkpoint, joint.files[:2], tmp_path)


def test_the_joint_checkpoint_is_not_replaced(joint, tmp_path):
    path = tmp_path / "checkpoint_1.pth"
    path.write_bytes(joint.checkpoint.read_bytes())
    with pytest.raises(UserError, match="checkpoint_1.pth is read by this step, which would replace it"):
        split(joint.algorithm, path, joint.files[:1])
    assert path.read_bytes() == joint.checkpoint.read_bytes()


@pytest.mark.wide
def test_a_file_is_read_by_a_process_that_has_built_nothing(parts, root):
    """What its config names is registered when it is asked for."""
    code = "import sys, mmrazor_lite; mmrazor_lite.load_subnet(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, str(parts[0])], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-500:]
