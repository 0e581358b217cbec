from __future__ import annotations

import random

import mmengine
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from mmrazor_lite.checkpoints.weight_names import operators
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import checkpoint_hash, load_weights, read_checkpoint, save_checkpoint


def _net():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))


def _prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def test_what_mmengine_writes_is_read(tmp_path):
    hub = MessageHub.get_instance("test_checkpoint")
    for value in (1.5, 2.5):
        hub.update_scalar("train/loss", value, resumed=True)
    hub.update_info("iter", 3)
    hub.update_info("score", np.float32(7))
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    content = {
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "message_hub": hub.state_dict(),
        "meta": {"epoch": 1, "seed": np.int64(5), "dataset_meta": {"classes": ("a", "b")}},
        "random": [random.getstate(), np.random.get_state(), torch.get_rng_state()],
    }
    torch.save(content, tmp_path / "a.pth")
    read = read_checkpoint(tmp_path / "a.pth")
    fresh = MessageHub.get_instance("test_checkpoint_fresh")
    fresh.load_state_dict(read["message_hub"])
    assert fresh.get_scalar("train/loss").mean() == 2.0 and fresh.get_info("score") == 7
    assert read["meta"] == content["meta"] and read["optimizer"] == content["optimizer"]
    random.setstate(read["random"][0])
    np.random.set_state(read["random"][1])


def test_pickles_that_execute_are_refused(tmp_path, payload):
    bomb, trace = payload
    torch.save({"state_dict": {}, "x": bomb}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: refused, it would run '[\w.]*open'"):
        read_checkpoint(tmp_path / "a.pth")
    assert not trace.exists()


def test_the_door_for_log_statistics_leads_nowhere_else(tmp_path):
    class Getattr:
        def __reduce__(self):
            return getattr, (torch.Tensor, "numpy")

    torch.save({"x": Getattr()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"would run 'getattr\("):
        read_checkpoint(tmp_path / "a.pth")


def test_text_that_mmengine_would_execute_is_dropped(tmp_path):
    torch.save({"state_dict": {}, "meta": {"config": "raise SystemExit", "cfg": "1/0", "epoch": 2}}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["meta"] == {"epoch": 2}


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.97])
def test_truncated_file(tmp_path, keep):
    path = tmp_path / "a.pth"
    save_checkpoint({"state_dict": _net().state_dict()}, path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(UserError, match=r"a\.pth: (the file is empty|not a checkpoint, or cut short)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("epoch_2.pth", r"no such file \(did you mean 'epoch_1.pth'\?\)"),
        ("nowhere/a.pth", "nowhere does not exist"),
        (".", r"is a folder; give one file of it \(epoch_1.pth\?\)"),
        ("text.txt", "not a checkpoint"),
        ("list.pth", "holds a list"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, path, message):
    torch.save({}, tmp_path / "epoch_1.pth")
    (tmp_path / "text.txt").write_text("model = dict()")
    if path == "list.pth":
        torch.save([1], tmp_path / path)
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / path)
    with pytest.raises(UserError, match="only local files"):
        read_checkpoint("https://example.org/a.pth")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "architecture.", "architecture.model.", "module.architecture."])
def test_prefixes_and_wrappings_are_ignored(wrap, prefix):
    source, target = _net(), _net()
    load_weights(target, wrap(_prefixed(source.state_dict(), prefix)))
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_the_prefix_may_be_on_the_model():
    source = _net()
    target = nn.ModuleDict({"architecture": _net()})
    load_weights(target, source.state_dict())
    assert torch.equal(target["architecture"][0].weight, source[0].weight)


def test_a_layer_called_model_keeps_its_name():
    source = nn.ModuleDict({"architecture": nn.ModuleDict({"model": nn.Linear(2, 2)})})
    target = nn.ModuleDict({"model": nn.Linear(2, 2)})
    load_weights(target, source.state_dict())
    assert torch.equal(target["model"].weight, source["architecture"]["model"].weight)


def test_masks_of_mmrazor_0x_are_no_weights():
    source, target = _net(), _net()
    state = _prefixed(source.state_dict(), "architecture.model.")
    load_weights(target, {**state, "architecture.model.0.in_mask": torch.ones(1, 3, 1, 1)})
    assert torch.equal(target[0].weight, source[0].weight)


def test_differences_are_listed_and_nothing_is_loaded():
    target = _net()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    state = {key: value + 1 for key, value in target.state_dict().items()}
    state["0.weight"] = torch.zeros(6, 3, 1, 1)
    for i in range(7):
        state[f"extra{i}"] = torch.zeros(1)
    del state["2.bias"]
    with pytest.raises(UserError) as error:
        load_weights(target, state, "some.pth")
    message = str(error.value)
    assert "some.pth" in message and "\n" not in message
    assert "1 missing: 2.bias" in message and "7 unexpected: extra0, extra1, extra2, extra3, extra4, ..." in message
    assert "0.weight (6, 3, 1, 1) in the file and (4, 3, 1, 1) in the model" in message
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


@pytest.mark.parametrize("state", [{}, {"state_dict": {}}, {"epoch": 3}])
def test_no_weights(state):
    with pytest.raises(UserError, match="no weights found"):
        load_weights(_net(), state)


def test_equal_content_gives_equal_bytes_of_its_own_storage(tmp_path):
    big = torch.arange(100_000, dtype=torch.float32)
    config = mmengine.ConfigDict(a=[{"b": 1}], c=np.float64(2.5))
    for name in ("a", "b"):
        save_checkpoint({"state_dict": {"part": big[:10]}, "meta": {"x": config, "path": tmp_path}}, tmp_path / name)
    assert (
        checkpoint_hash(tmp_path / "a") == checkpoint_hash(tmp_path / "b")
        and len(checkpoint_hash(tmp_path / "a")) == 16
    )
    assert (tmp_path / "a").stat().st_size < 5000
    assert read_checkpoint(tmp_path / "a")["meta"] == {"x": {"a": [{"b": 1}], "c": 2.5}, "path": str(tmp_path)}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    save_checkpoint({"state_dict": _net().state_dict()}, path)
    before = path.read_bytes()

    def half(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint({}, path)
    assert path.read_bytes() == before and [item.name for item in tmp_path.iterdir()] == ["a.pth"]


def _operator_net(several: bool) -> nn.Module:
    """A layer, then a choice between two operators (or the first of them, as a plain layer)."""
    chosen = nn.ModuleDict({"_candidates": nn.ModuleDict({"conv_1": nn.Linear(2, 2), "conv_3": nn.Linear(2, 2)})})
    return nn.ModuleDict({"stem": nn.Linear(2, 2), "block": chosen if several else nn.Linear(2, 2)})


@pytest.mark.parametrize("word", ["_candidates", "choices"])
def test_operators_are_found_under_the_names_of_mmrazor(word):
    state = _operator_net(several=True).state_dict()
    renamed = {f"architecture.model.{key.replace('_candidates', word)}": value for key, value in state.items()}
    net = _operator_net(several=True)
    load_weights(net, {"state_dict": renamed})
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert operators(renamed) == {"architecture.model.block": {"conv_1", "conv_3"}}


@pytest.mark.parametrize("word", ["_candidates", "choices"])
def test_a_subnet_with_the_name_of_its_operator_fits_the_plain_one(word):
    state = _operator_net(several=False).state_dict()
    named = {key.replace("block.", f"block.{word}.conv_3."): value for key, value in state.items()}
    net = _operator_net(several=False)
    load_weights(net, {"state_dict": named})
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_several_operators_do_not_fit_a_plain_one():
    with pytest.raises(UserError, match=r"missing: block\.weight.*unexpected: .*_candidates\.conv_1"):
        load_weights(_operator_net(several=False), {"state_dict": _operator_net(several=True).state_dict()})
