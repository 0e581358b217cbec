"""``mmrazor-lite configs``: the list, and copies that are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrazor_lite import shipped
from mmrazor_lite.cli import main
from mmrazor_lite.cli.configs import copy
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError


def test_the_list_is_of_names_that_are_found(capsys):
    assert main(["configs", "*_digits.py"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) > 10
    assert all(name.startswith("mmrazor_lite::configs/") and Path(shipped.find(name)).is_file() for name in names)
    assert main(["configs", "autoslim_supernet_digit"]) == 0
    assert capsys.readouterr().out.split() == ["mmrazor_lite::configs/pruning/autoslim/autoslim_supernet_digits.py"]
    assert main(["configs", names[0]]) == 0
    assert capsys.readouterr().out.split() == names[:1]


@pytest.mark.parametrize(
    ("name", "file", "others"),
    [
        ("autoslim_supernet_digits", "pruning/autoslim/autoslim_supernet_digits.py", {"_base_/runtime.py"}),
        (
            "mmrazor_lite::configs/nas/tfnas/tfnas_subnet_2xb512_in1k.py",
            "nas/tfnas/tfnas_subnet_2xb512_in1k.py",
            {"nas/tfnas/TFNAS_A.yaml", "_base_/schedules/tfnas_retrain.py"},
        ),
        ("my_net_supernet_cifar10.py", "any_model/my_net_supernet_cifar10.py", {"any_model/my_net.py"}),
    ],
)
def test_a_copy_means_the_same(tmp_path, monkeypatch, name, file, others):
    monkeypatch.chdir(tmp_path)  # where configs/any_model/my_net.py is found by its import path
    written = copy(name, "configs")
    assert {Path("configs", path) for path in {file, *others}} <= set(written)
    assert {path for path in Path("configs").rglob("*") if path.is_file()} == set(written)
    assert len(written) < 12
    mine, own = load_config(Path("configs", file)), load_config(shipped.CONFIGS / file)
    assert str(shipped.CONFIGS) not in str(mine.to_dict())
    assert str(own.to_dict()).replace(str(shipped.CONFIGS), str(tmp_path / "configs")) == str(mine.to_dict())


def test_a_pattern_copies_all_that_fit(tmp_path, capsys):
    assert main(["configs", "copy", "spos_*_digits.py", str(tmp_path / "mine")]) == 0
    assert sorted(path.name for path in (tmp_path / "mine/nas/spos").iterdir()) == [
        "spos_evolution_search_digits.py", "spos_subnet_digits.py", "spos_supernet_digits.py",
    ]  # fmt: skip
    assert str(tmp_path / "mine/nas/spos/spos_subnet_digits.py") in capsys.readouterr().out


def test_what_was_changed_is_kept(tmp_path):
    first = copy("autoslim_supernet_digits", tmp_path)
    first[1].write_text("mine = 1\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.py")}
    with pytest.raises(UserError, match="is there and is another: nothing was copied"):
        copy("autoslim_search_digits", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.py")} == before
    first[1].unlink()
    assert set(copy("autoslim_supernet_digits", tmp_path)) == set(first)
    assert first[1].read_text() != "mine = 1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no_such"], "no config fits 'no_such'"),
        (["autoslim_supernet_digit.py"], "did you mean 'autoslim_supernet_digits.py'"),
        (["a", "b"], "configs: one PATTERN, not 2"),
        (["copy"], "configs copy: give NAME DIR"),
        (["copy", "x"], "configs copy: give NAME DIR"),
        (["copy", "no_such", "D"], "no config fits 'no_such'"),
        (["copy", "spos", "D"], "configs copy: 'spos' is in the names of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fails, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails("configs", *words)
    assert not list(tmp_path.iterdir())


def test_commands_take_names_of_the_package(capsys, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "mmrazor_lite::configs/pruning/autoslim/autoslim_subnet_digits.py"
    assert main(["print-config", name, "--cfg-options", "train_cfg.max_epochs=77"]) == 0
    assert "max_epochs=77" in capsys.readouterr().out
    assert "'mmrazor_lite::configs/none.py' does not come with this package" in fails(
        "print-config", "mmrazor_lite::configs/none.py"
    )
