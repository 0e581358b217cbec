"""``migrate`` writes a config of MMRazor in our own form: the file loads and builds as the original does."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from migration import v0_layout
from mmengine.config import Config

from mmrazor_lite.cli import main
from mmrazor_lite.config import build_model, load_config, schema
from mmrazor_lite.config.config_text import as_text
from mmrazor_lite.errors import UserError
from mmrazor_lite.migration import generation_of
from mmrazor_lite.plain_data import copied
from mmrazor_lite.walk import mappings

OF_1X = Path(__file__).resolve().parents[1] / "config" / "mmrazor_1x"


@pytest.fixture
def migrate(capsys, tmp_path):
    """Write a config in our form; return its file and what was said."""

    def migrate(config: Path, *options: str, status: int = 0) -> tuple[Path, list[str]]:
        out = tmp_path / "ours.py"
        words = ["migrate", str(config), "-o", str(out), *(["--cfg-options", *options] if options else [])]
        assert main(words) == status
        said = capsys.readouterr()
        return out, (said.out + said.err).splitlines()

    return migrate


def without_words(cfg) -> dict:
    """A config without helper variables, and without scopes that say no more than the default does."""
    plain = copied({key: value for key, value in cfg.items() if key in schema.TOP_LEVEL})
    for _, node in mappings(plain):
        if node.get("_scope_") == "mmpretrain":
            del node["_scope_"]
    return plain


def same(written: Path, original: Path, *options: str) -> None:
    ours, theirs = load_config(written), load_config(original, options)
    assert without_words(ours) == without_words(theirs)
    shapes = [
        {key: tuple(value.shape) for key, value in build_model(cfg).state_dict().items()} for cfg in (ours, theirs)
    ]
    assert shapes[0] == shapes[1] and shapes[0]


@pytest.mark.parametrize("name", ["supernet", "search", "subnet"])
def test_configs_of_1x(migrate, name):
    written, said = migrate(OF_1X / f"{name}.py")
    same(written, OF_1X / f"{name}.py")
    assert said[0] == f"read {OF_1X / name}.py, a config of MMRazor 1.x" and said[-1] == f"wrote {written}"
    assert all(line.startswith("changed: ") for line in said[1:-1])
    text = written.read_text()
    assert generation_of(Config.fromfile(written)._cfg_dict) == "own"
    assert "mmrazor." not in text and "mmcls" not in text and "_scope_" not in text and "_base_" not in text


@pytest.mark.parametrize("layout", [v0_layout.autoslim, pytest.param(v0_layout.spos, marks=pytest.mark.wide)])
def test_configs_of_0x(migrate, tmp_path, layout):
    config = tmp_path / "theirs.py"
    config.write_text(as_text(layout()))
    written, said = migrate(config, "data.samples_per_gpu=2")
    same(written, config, "data.samples_per_gpu=2")
    assert said[0].endswith("a config of MMRazor 0.x") and any("changed: lr_config -> " in line for line in said)
    assert load_config(written).train_dataloader.batch_size == 2
    assert generation_of(Config.fromfile(written)._cfg_dict) == "own"


def test_a_config_of_ours_stays_what_it_is(migrate, root):
    config = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    written, said = migrate(config, "model.num_random_samples=1")
    same(written, config, "model.num_random_samples=1")
    assert said == [f"read {config}, a config of this project", f"wrote {written}"]


def test_what_could_not_be_translated_is_said_and_keeps_the_file_from_being_used(migrate, tmp_path):
    wrong = copy.deepcopy(v0_layout.autoslim())
    wrong["lr_config"]["policy"], wrong["optimizer_config"]["clip"] = "Wave", 3
    config = tmp_path / "theirs.py"
    config.write_text(as_text(wrong))
    written, said = migrate(config, status=2)
    left = [line.removeprefix("left to you: ") for line in said if line.startswith("left to you: ")]
    assert any("lr_config.policy" in line for line in left) and any("optimizer_config" in line for line in left)
    assert said[-1].startswith(f"error: {config}: {len(left)} parts could not be translated")
    assert all(f"# To do: {line}\n" in written.read_text() for line in left)
    with pytest.raises(UserError, match="parts of it are not translated, see 'To do' at its top"):
        load_config(written)
    written.write_text(written.read_text().replace("_not_translated = True", ""))
    assert load_config(written).model.type == "mmrazor_lite.AutoSlim"


def test_without_a_file_the_config_is_printed_and_nothing_else(capsys, tmp_path):
    assert main(["migrate", str(OF_1X / "supernet.py")]) == 0
    said = capsys.readouterr()
    (tmp_path / "ours.py").write_text(said.out)
    same(tmp_path / "ours.py", OF_1X / "supernet.py")
    assert said.err.startswith("read ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["c.yaml"], "a config is a Python file: give FILE.py"),
        ([str(OF_1X / "supernet.py")], "is read by this step"),
    ],
)
def test_where_nothing_is_written_to(fails, words, message):
    assert message in fails("migrate", OF_1X / "supernet.py", "-o", *words)
    assert (OF_1X / "supernet.py").is_file() and not Path("c.yaml").exists()
