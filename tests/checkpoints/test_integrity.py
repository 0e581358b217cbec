"""Damaged bytes, numbers that are none, and files that ask for more than any network needs."""

from __future__ import annotations

import random
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from mmrazor_lite.checkpoints.integrity import MAX_DEPTH, check_archive, digests, is_finite
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import checkpoint_hash, load_weights, read_checkpoint, save_checkpoint


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.fixture
def written(tmp_path) -> Path:
    """A file of ours."""
    path = tmp_path / "a.pth"
    save_checkpoint({"state_dict": _net().state_dict(), "meta": {"epoch": 3, "names": ["a", "b"]}}, path)
    return path


def _archive(path: Path, pickled: bytes, records: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", b"3\n")
        archive.writestr("a/byteorder", b"little")
        for index in range(records):
            archive.writestr(f"a/data/{index}", b"")
    return path


def _changed(source: Path, target: Path, change) -> Path:
    """The archive with its pickle changed, and with check sums of what it now is."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            data = old.read(record)
            if record.filename.endswith("data.pkl"):
                assert change(data) != data
                data = change(data)
            new.writestr(record.filename, data)
    return target


@pytest.mark.parametrize("write", [save_checkpoint, torch.save])
def test_every_flipped_bit_of_a_weight_is_seen(tmp_path, write):
    """In a file of ours, and in one of anybody's: the check sums are torch's own."""
    weights = _net().state_dict()
    write({"state_dict": weights}, tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    start = data.index(weights["0.weight"].numpy().tobytes())
    rng = random.Random(0)
    for _ in range(20):
        flipped = bytearray(data)
        flipped[start + rng.randrange(weights["0.weight"].numel() * 4)] ^= 1 << rng.randrange(8)
        (tmp_path / "b.pth").write_bytes(flipped)
        with pytest.raises(UserError, match=r"b\.pth: damaged, the check sum of its record '\S+/data/\d' is wrong"):
            read_checkpoint(tmp_path / "b.pth")


def test_a_flipped_bit_anywhere_is_an_error_of_one_line_or_harmless(written, tmp_path):
    data, content = written.read_bytes(), read_checkpoint(written)
    rng = random.Random(1)
    refused = 0
    for _ in range(150):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "b.pth").write_bytes(flipped)
        try:
            found = read_checkpoint(tmp_path / "b.pth")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and "b.pth" in str(error)
        else:  # in the padding between records, or in the date of one
            assert found["meta"] == content["meta"]
            assert all(torch.equal(found["state_dict"][key], value) for key, value in content["state_dict"].items())
    assert refused > 20


def test_content_that_was_changed_does_not_pass_for_what_was_written(written, tmp_path):
    content = torch.load(written, weights_only=True)
    assert set(content["digest"]) == {"state_dict", "meta"} and "digest" not in read_checkpoint(written)
    fewer = {key: value for key, value in content.items() if key != "meta"}
    torch.save(fewer, tmp_path / "fewer.pth")  # to leave a section out is anybody's right
    assert set(read_checkpoint(tmp_path / "fewer.pth")) == {"state_dict"}
    content["state_dict"]["0.weight"][0, 0, 0, 0] += 1
    torch.save(content, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"b\.pth: its 'state_dict' is not what was written .*remove its key 'digest'"):
        read_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["0.weight", "1.running_var"])
def test_what_is_no_number_is_not_loaded(written, value, key):
    content, target = read_checkpoint(written), _net()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    content["state_dict"][key].view(-1)[1] = float(value)
    with pytest.raises(UserError, match=f"x.pth: {key} holds {'NaN' if value == 'nan' else 'infinity'}"):
        load_weights(target, content, "x.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_the_digest_is_of_types_shapes_and_order_too():
    values = [
        torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(6), torch.zeros(6, dtype=torch.int32), [0.0] * 6, (0.0,) * 6,
        0, 0.0, False, "0", b"0", None, {}, [], (), {"a": 1, "b": 2}, {"b": 1, "a": 2}, {"a": [1, 2]}, {"a": [[1], 2]},
    ]  # fmt: skip
    found = [digests({"section": value})["section"] for value in values]
    assert len(set(found)) == len(values)
    assert found[0] == digests({"section": torch.zeros(3, 2).T})["section"]  # not how it lies in memory


def test_a_mask_of_infinities_is_part_of_a_network():
    net = nn.Linear(2, 2)
    net.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    load_weights(net, {key: value.clone() for key, value in net.state_dict().items()})
    with pytest.raises(UserError, match="mask holds infinity"):
        load_weights(net, {**net.state_dict(), "mask": torch.full((2, 2), -torch.inf)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_is_finite_of_every_kind(dtype):
    values = torch.full((5,), 3e4).to(dtype)
    assert is_finite(values) and is_finite(torch.full((5,), 3e38))  # whose sum is beyond its kind
    for wrong in (torch.nan, torch.inf):
        values[2] = wrong
        assert not is_finite(values)
        assert is_finite(values, allow_inf=True) == (wrong == torch.inf)


# bombs ----------------------------------------------------------------------------------------------------------


def _nested(count: int) -> bytes:
    return b"\x80\x02}K\x01" + b"]" * count + b"a" * (count - 1) + b"s."


BOMBS = {
    "steps": (b"\x80\x02" + b"]" * 10_000_000 + b".", "more than 1,500,000 steps"),
    "tuples": (b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"K\x01s.", "tuples more than 1000 deep"),
    "storages": (  # each says that it is one, of the one before
        b"\x80\x02})" + b"q\x01" + b"(X\x07\x00\x00\x00storageh\x01NNNtq\x01" * 50_000 + b"K\x01s.",
        "tuples more than 1000 deep",
    ),
    "tuples by name": (b"\x80\x02})" + b"q\x00h\x00\x85" * 100_000 + b"K\x01s.", "tuples more than 1000 deep"),
    "lists": (_nested(100_000), "dicts or lists more than 64 deep"),
    "laughs": (  # each list holds the one before ten times
        b"\x80\x02}K\x01]q\x00K\x01a"
        + b"".join(b"](" + b"h" + bytes([i]) * 1 + (b"h" + bytes([i])) * 9 + b"eq" + bytes([i + 1]) for i in range(12))
        + b"\x87\x87\x87\x87\x87\x87s.",
        "more than 500,000 entries",
    ),
    "itself": (b"\x80\x02}q\x00K\x01h\x00s.", "more than 64 deep"),
    "entries": (b"\x80\x02}K\x01](" + b"K\x01" * 1_000_000 + b"es.", "more than 500,000 entries"),
    "a global": (b"\x80\x02}K\x01cposix\nsystem\nX\x02\x00\x00\x00ls\x85Rs.", "it would run 'posix.system'"),
    "nonsense": (b"\x80\x02\xff\xff\xff.", "protocol"),
    "empty stack": (b"\x80\x02tRtR.", "not a checkpoint"),
    "endless text": (b"\x80\x02X\xff\xff\xff\xffa.", "not a checkpoint"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("legacy", [False, True])
def test_bombs_are_answered_at_once(tmp_path, name, legacy):
    pickled, message = BOMBS[name]
    path = tmp_path / "bomb.pth"
    if legacy:  # as torch < 1.6 wrote: five pickles, then the tensors
        magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00."
        path.write_bytes(magic + pickled + b"\x80\x02].")
    else:
        _archive(path, pickled)
    began = time.process_time()
    with pytest.raises(UserError, match=message) as error:
        read_checkpoint(path)
    assert time.process_time() - began < 2
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_storage_of_more_bytes_than_its_record_is_told_before_it_is_read(tmp_path):
    """Newer releases of torch refuse it themselves, torch 2.6 reads what lies behind."""
    tensors = {"w": torch.arange(108.0), "half": torch.ones(9, dtype=torch.float16), "again": torch.zeros(0)}
    torch.save({**tensors, "view": tensors["w"][:3]}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").keys() == {*tensors, "view"}
    path = _changed(tmp_path / "a.pth", tmp_path / "b.pth", lambda data: data.replace(b"Kl", b"Km", 1))
    line = r"b\.pth: damaged, its record '\w+/data/0' holds 432 bytes, its tensors say 436; copy"
    with pytest.raises(UserError, match=line):
        check_archive(path)
    hidden = _changed(
        tmp_path / "a.pth", tmp_path / "b.pth", lambda data: data.replace(b"X\x03\x00\x00\x00cpu", b"N", 1)
    )
    with pytest.raises(UserError, match="it has a tensor that is not described as torch does it"):
        check_archive(hidden)


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_of_every_kind_are_read(tmp_path, protocol):
    kinds = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128".split()
    kinds += [name for name in ("uint16", "uint32", "float8_e4m3fn", "float8_e5m2") if hasattr(torch, name)]
    content = {name: torch.ones(300).to(getattr(torch, name)) for name in kinds}
    torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol)
    check_archive(tmp_path / "a.pth")
    if protocol == 2:
        assert all(
            torch.equal(value.view(torch.uint8), content[k].view(torch.uint8))
            for k, value in read_checkpoint(tmp_path / "a.pth").items()
        )


def test_what_is_compressed_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        with archive.open("a/data/0", "w", force_zip64=True) as record:
            for _ in range(64):
                record.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match=r"bomb\.pth: refused, its record 'a/data.pkl' is compressed"):
        read_checkpoint(path)


def test_records_that_lie_over_each_other(tmp_path):
    """One stretch of bytes listed many times, as zip bombs without compression are made."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/0", bytes(1 << 20))
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", data[end + 16 : end + 20])[0]
    listed, tail = data[start:end] * 50, bytearray(data[end:])
    tail[8:16] = struct.pack("<HHI", 50, 50, len(listed))
    path.write_bytes(data[:start] + listed + bytes(tail))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == 50
    with pytest.raises(
        UserError, match=r"a\.pth: refused, its records say 52,428,800 bytes, the file has 1,0\d\d,\d\d\d$"
    ):
        read_checkpoint(path)


def test_too_many_records(tmp_path, monkeypatch):
    monkeypatch.setattr("mmrazor_lite.checkpoints.integrity.MAX_RECORDS", 100)
    with pytest.raises(UserError, match="has 203 records, at most 100 are read"):
        read_checkpoint(_archive(tmp_path / "a.pth", b"\x80\x02}.", records=200))
    with pytest.raises(UserError, match="lists more than 100 records"):  # seen before the list is read
        read_checkpoint(_archive(tmp_path / "a.pth", b"\x80\x02}.", records=2000))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(K\x04K\x03K\x03K\x03t", b"(K\x04K\x03K\x03J\x00\x00\x00\x10t"),  # a larger shape
        (b"(K\x1bK\tK\x03K\x01t", b"(J\x00\x00\x00\x10K\tK\x03K\x01t"),  # a larger stride
        (b"Kl", b"J\x00\x00\x00\x10"),  # a larger storage
    ],
)
def test_tensors_of_more_than_there_is(tmp_path, old, new):
    torch.save({"w": torch.arange(108.0).reshape(4, 3, 3, 3)}, tmp_path / "a.pth")
    path = _changed(tmp_path / "a.pth", tmp_path / "b.pth", lambda data: data.replace(old, new))
    with pytest.raises(UserError, match=r"b\.pth"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(10**12), "'w' of shape .* says more values than the file has"),
        (torch.zeros(2, 2).to_sparse(), "'w' is no plain one"),
        (torch.empty(10**12, device="meta"), "'w' is no plain one"),
    ],
)
def test_tensors_that_are_none(tmp_path, tensor, message):
    torch.save({"w": tensor}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "a.pth")


def test_what_networks_really_are_is_read(tmp_path):
    """Many tensors, tied ones, a small view, and more depth than a config has."""
    shared = torch.randn(3)
    config: dict = {}
    for _ in range(MAX_DEPTH // 2 - 2):
        config = {"a": [config]}
    state = OrderedDict((f"layers.{i}.weight", torch.zeros(1)) for i in range(1000))
    content = {
        "state_dict": {**state, "a": shared, "b": shared, "c": shared.expand(2, 3)},
        "meta": {"config_of": config},
    }
    for write in (torch.save, save_checkpoint):
        write(content, tmp_path / "a.pth")
        found = read_checkpoint(tmp_path / "a.pth")
        assert found["state_dict"].keys() == content["state_dict"].keys() and found["meta"] == content["meta"]
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "old.pth")["state_dict"]["b"], shared)


def test_the_check_costs_little_beside_reading(tmp_path):
    torch.save({f"{i}": torch.zeros(1 << 18) for i in range(32)}, tmp_path / "a.pth")  # 32 MB
    times = {"check": [], "load": []}
    for _ in range(3):
        for name, action in (
            ("check", lambda: check_archive(tmp_path / "a.pth")),
            ("load", lambda: checkpoint_hash(tmp_path / "a.pth") and torch.load(tmp_path / "a.pth", weights_only=True)),
        ):
            began = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - began)
    assert min(times["check"]) < 2 * min(times["load"])


def test_equal_content_gives_equal_bytes_whatever_objects_it_is_of(tmp_path):
    """A resumed run has other objects than the one that was not interrupted."""
    word, twice = "".join(["da", "ta"]), ["x", 1.5]
    one = {"meta": {"data": word, "b": [twice, twice], "c": ("u", "v")}, "state_dict": {"data": torch.ones(2)}}
    two = {
        "meta": {"data": "".join(["d", "ata"]), "b": [["".join("x"), 1.5], ["x", 1.5]], "c": tuple("uv")},
        "state_dict": {"".join(["dat", "a"]): torch.ones(2)},
    }
    assert one["meta"] == two["meta"]
    for name, content in (("one", one), ("two", two)):
        save_checkpoint(content, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
