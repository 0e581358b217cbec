"""The configs of the package by name: on the command line, in ``_base_``, and as values."""

from __future__ import annotations

import pytest

from mmrazor_lite import shipped
from mmrazor_lite.cli.configs import copy
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.network_names import _copied

DIGITS = "configs/pruning/autoslim/autoslim_supernet_digits.py"
SUBNET = "mmrazor_lite::configs/nas/spos/SPOS_SUBNET.yaml"


def plain(cfg) -> dict:
    return {key: value for key, value in cfg.to_dict().items() if key not in ("filename", "text")}


@pytest.mark.parametrize("name", [f"mmrazor_lite::{DIGITS}", f"mmrazor_lite::{DIGITS.removeprefix('configs/')}"])
def test_a_base_of_the_package_is_the_file_itself(root, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(f"_base_ = {name!r}\nepochs = 7\ntrain_cfg = dict(max_epochs=epochs)\n")
    (tmp_path / "on_mine.py").write_text("_base_ = ['mine.py']\n")
    original = load_config(root / DIGITS)
    assert original.train_cfg.max_epochs == 15
    original.train_cfg.max_epochs = 7
    for file in ("mine.py", "on_mine.py"):  # no scope either: the names in it mean what they mean in the file
        assert plain(load_config(file)) == {**plain(original), "epochs": 7}


def test_a_base_beside_one_of_mmpretrain(tmp_path):
    bases = [f"mmrazor_lite::{DIGITS}", "mmpretrain::_base_/schedules/imagenet_bs256_coslr.py"]
    (tmp_path / "mine.py").write_text(f"_base_ = {bases[:1]}\ntrain_cfg = dict(max_epochs=7)\n")
    assert load_config(tmp_path / "mine.py").train_cfg.max_epochs == 7
    (tmp_path / "other.py").write_text(f"_base_ = {bases[1:]}\n")
    assert load_config(tmp_path / "other.py").train_cfg.max_epochs == 100


def test_a_value_may_name_a_subnet_of_the_package(root, tmp_path):
    option = load_config(root / DIGITS, [f"model.channel_cfg=[{SUBNET},{SUBNET}]", "model.distiller=None"])
    path = str(root / "configs/nas/spos/SPOS_SUBNET.yaml")
    assert list(option.model.channel_cfg) == [path, path]
    (tmp_path / "mine.py").write_text(f"_base_ = 'mmrazor_lite::{DIGITS}'\nmodel = dict(channel_cfg={SUBNET!r})\n")
    assert load_config(tmp_path / "mine.py").model.channel_cfg == path


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mmrazor_lite::configs/autoslim_supernet_digits.py", f"did you mean 'mmrazor_lite::{DIGITS}'"),
        ("mmrazor_lite::configs/pruning/autoslim/autoslim_supernet_digit.py", f"did you mean '{DIGITS}'"),
        ("mmrazor_lite::configs/../setup.py", "'mmrazor-lite configs' lists what does"),
        ("mmrazor_lite::/etc/hostname", "'mmrazor-lite configs' lists what does"),
        ("mmrazor_lite::configs", "'mmrazor-lite configs' lists what does"),
        ("mmrazor_lite::", "'mmrazor-lite configs' lists what does"),
        (f"mmrazor_lite::{'x' * 5000}", "'mmrazor-lite configs' lists what does"),
        ("mmrazor_lite::a\0b.py", "'mmrazor-lite configs' lists what does"),
    ],
)
def test_what_does_not_come_with_the_package_is_said(tmp_path, name, hint):
    with pytest.raises(UserError, match="does not come with this package") as error:
        shipped.find(name)
    assert hint in str(error.value)
    (tmp_path / "mine.py").write_text(f"_base_ = {name!r}\n")
    with pytest.raises(UserError, match=r"config file '.*mine.py' cannot be read: 'mmrazor_lite::.*' does not come"):
        load_config(tmp_path / "mine.py")


def test_a_path_of_a_clone_that_is_not_here_is_offered_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (DIGITS, f"./{DIGITS}"):
        with pytest.raises(UserError, match=f"'{path}' not found: 'mmrazor_lite::{DIGITS}' is the one that comes"):
            load_config(path)
    with pytest.raises(UserError, match="config file 'configs/none.py' not found: there is no folder 'configs'"):
        load_config("configs/none.py")


def test_a_module_of_the_example_configs_is_brought_by_a_copy(tmp_path):
    found = _copied("configs.any_model.my_net")
    assert found.endswith("'mmrazor-lite configs copy mmrazor_lite::configs/any_model/my_net.py configs' brings it")
    assert copy(found.split()[4], tmp_path) == [tmp_path / "any_model/my_net.py"]
    assert _copied("configs.mine") == _copied("my_net") == ""


@pytest.mark.parametrize(
    ("pattern", "first", "count"),
    [
        ("autoslim_supernet_digits", "pruning/autoslim/autoslim_supernet_digits.py", 1),
        (DIGITS, "pruning/autoslim/autoslim_supernet_digits.py", 1),
        (f"mmrazor_lite::{DIGITS}", "pruning/autoslim/autoslim_supernet_digits.py", 1),
        ("SPOS_SUBNET", "nas/spos/SPOS_SUBNET.yaml", None),
        ("spos_*_digits.py", "nas/spos/spos_evolution_search_digits.py", 3),
        ("nas/tfnas/*.yaml", "nas/tfnas/TFNAS_A.yaml", 1),
        ("no such config", None, 0),
    ],
)
def test_patterns(pattern, first, count):
    found = shipped.inside(pattern)
    assert found[:1] == ([first] if first else [])
    assert count is None or len(found) == count


def test_all_are_listed_bases_last(root):
    found = shipped.inside()
    assert set(found) == {
        str(path.relative_to(root / "configs"))
        for path in (root / "configs").rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    bases = [path.startswith("_base_/") for path in found]
    assert bases == sorted(bases) and any(bases)
