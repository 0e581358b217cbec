"""Configs and lists in formats that can name code: nothing of them is run."""

from __future__ import annotations

import pickle

import mmengine
import pytest

from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError


@pytest.mark.parametrize("kind", ["python/object/apply:os.mkdir", "python/object/new:os.mkdir"])
@pytest.mark.parametrize("as_base", [False, True])
def test_a_config_in_yaml_runs_nothing(tmp_path, kind, as_base):
    made, config, child = (tmp_path / name for name in ("made", "config.yaml", "child.py"))
    config.write_text(f"compile: false\nwork_dir: !!{kind} [{str(made)!r}]\n")
    child.write_text("_base_ = './config.yaml'\n")
    with pytest.raises(UserError, match="cannot be read: .*line 2: .*os.mkdir.*only plain values are read"):
        load_config(child if as_base else config)
    assert not made.exists()


def test_a_config_in_yaml_is_read(tmp_path, root):
    base = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    (tmp_path / "child.yaml").write_text(f"_base_: {str(base)!r}\nrandomness: {{seed: 7}}\n")
    assert load_config(tmp_path / "child.yaml").randomness.seed == 7


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": ' + "[" * 2000 + "]" * 2000 + "}", "nested too deep"),
        ('{"seed":\n }', "line 2: no JSON: Expecting value"),
    ],
)
def test_a_config_in_json_that_is_none_is_told(tmp_path, text, problem):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=f"config.json' cannot be read: {problem}"):
        load_config(tmp_path / "config.json")


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", ["pkl", "pickle"])
def test_a_list_of_images_is_not_unpickled(tmp_path, registered, suffix):
    from mmpretrain.registry import DATASETS

    file = tmp_path / f"list.{suffix}"
    file.write_bytes(pickle.dumps(Payload(tmp_path / "made")))
    with pytest.raises(UserError, match="a pickle .* may run code while it is read"):
        DATASETS.build({"type": "mmpretrain.MultiLabelDataset", "ann_file": str(file)})
    assert not (tmp_path / "made").exists()


def test_what_is_written_is_as_before(tmp_path, registered):
    for name in ("a.yaml", "a.json"):
        mmengine.dump({"a": [1, 2.5]}, tmp_path / name)
        assert mmengine.load(tmp_path / name) == {"a": [1, 2.5]}


def test_a_config_that_exits_is_told(tmp_path):
    (tmp_path / "config.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UserError, match="config.py' cannot be read: .*3"):
        load_config(tmp_path / "config.py")


def test_what_is_no_plain_file_is_not_looked_up(tmp_path):
    import os

    os.mkfifo(tmp_path / "config.py")
    with pytest.raises(UserError, match="config.py' is no plain file$"):
        load_config(tmp_path / "config.py")
    with pytest.raises(UserError, match="' is a folder$"):
        load_config(tmp_path)
