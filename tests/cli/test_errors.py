"""What a user does wrong ends in one line and status 2; files that exist stay as they were."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmrazor_lite.cli import main

AUTOSLIM = "configs/pruning/autoslim"


def fails(capsys, *argv: object) -> str:
    assert main([str(word) for word in argv]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1, err
    assert err[0].startswith("error: ")
    return err[0]


@pytest.fixture
def config(root):
    return lambda name: root / AUTOSLIM / f"autoslim_{name}.py"


def test_missing_config(capsys, tmp_path):
    assert "not found: there is no folder" in fails(capsys, "train", tmp_path / "x/config.py")


@pytest.mark.parametrize("command", ["search", "test"])
def test_missing_checkpoint(capsys, config, tmp_path, command):
    (tmp_path / "epoch_10.pth").touch()
    line = fails(capsys, command, config("search_digits"), tmp_path / "epoch_1O.pth")
    assert "did you mean 'epoch_10.pth'" in line


def test_search_needs_a_search_config(capsys, config, tmp_path):
    (tmp_path / "a.pth").touch()
    line = fails(capsys, "search", config("supernet_digits"), tmp_path / "a.pth", "--work-dir", tmp_path)
    assert "has no search_cfg" in line


def test_missing_data_folder_shows_the_layout(capsys, config, tmp_path):
    line = fails(
        capsys,
        "train",
        config("mbv2_supernet_8xb256_in1k"),
        "--work-dir",
        tmp_path,
        "--cfg-options",
        f"data_root={tmp_path}/no",
    )
    assert f"data folder '{tmp_path}/no/train' not found" in line
    assert "/train/CLASS/IMAGE.jpg" in line
    assert "data_root=DIR" in line


def test_a_missing_folder_of_one_section_names_the_key_that_gives_another(capsys, config, tmp_path):
    """``data_root`` at the top would change nothing for a dataset that has a folder of its own."""
    key = "train_dataloader.dataset.dataset.data_root"
    options = ["--work-dir", tmp_path, "--cfg-options", f"{key}={tmp_path}/no"]
    line = fails(capsys, "train", config("mbv2_supernet_8xb256_in1k"), *options)
    assert line.endswith(f"--cfg-options {key}=DIR")
    assert f"{tmp_path}/no/train/CLASS/IMAGE.jpg" in line
    line = fails(capsys, "train", config("mbv2_supernet_cifar10"), *options, f"{key[:-9]}data_prefix=")
    assert f"{tmp_path}/no/CLASS/IMAGE.jpg" in line


@pytest.mark.parametrize(("make", "message"), [([], "no class folders"), (["cat"], "has no images")])
def test_empty_data_folder(capsys, config, tmp_path, make, message):
    (tmp_path / "train").mkdir()
    for name in make:
        (tmp_path / "train" / name).mkdir()
    words = ("train", config("mbv2_supernet_cifar10"), "--work-dir", tmp_path / "w")
    assert message in fails(capsys, *words, "--cfg-options", f"data_root={tmp_path}")


def test_wrong_number_of_classes(capsys, config, tmp_path):
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "train/cat/1.jpg").touch()
    words = ("train", config("mbv2_supernet_8xb256_in1k"), "--work-dir", tmp_path / "w")
    assert "1 class folders, ImageNet has 1000" in fails(capsys, *words, "--cfg-options", f"data_root={tmp_path}")


def test_none_without_a_checkpoint(capsys, config, tmp_path):
    line = fails(capsys, "test", config("supernet_digits"), "none", "--work-dir", tmp_path)
    assert "names none either" in line


def test_unknown_metric(capsys, config, tmp_path):
    (tmp_path / "a.pth").touch()
    words = ("test", config("supernet_digits"), tmp_path / "a.pth", "--work-dir", tmp_path)
    assert "did you mean 'accuracy'" in fails(capsys, *words, "--metrics", "acuracy")


def test_launcher_without_its_processes(capsys, config, monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    for launcher in ("pytorch", "slurm", "mpi"):
        line = fails(capsys, "train", config("supernet_digits"), "--launcher", launcher)
        assert f"--launcher {launcher}" in line


def test_input_shape(capsys, config):
    assert "H W" in fails(capsys, "flops", config("supernet_digits"), "--input-shape", 1, 2, 3)
    assert "subnet file" in fails(capsys, "flops", config("supernet_digits"), "--subnet", "nowhere.yaml")


def test_traceback_on_request(config, monkeypatch):
    monkeypatch.setenv("MMRAZOR_LITE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="not found"):
        main(["print-config", "nowhere.py"])
    assert os.environ["MMRAZOR_LITE_TRACEBACK"] == "1"


def test_reset_head_needs_weights_to_start_from(capsys, config, tmp_path):
    words = ("train", config("supernet_digits"), "--work-dir", tmp_path / "w", "--reset-head")
    assert "--cfg-options load_from=FILE, without --resume" in fails(capsys, *words)
    assert "without --resume" in fails(capsys, *words, "--resume")
    assert not (tmp_path / "w").exists()


def test_a_signal_in_the_last_moment_is_one_line(root, capsys, monkeypatch):
    """The work is done, and the folder is being let go."""

    @contextlib.contextmanager
    def released():
        yield
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sys.modules["mmrazor_lite.cli.main"], "released", released)
    config = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    assert main(["print-config", str(config)]) == 143
    assert capsys.readouterr().err == "terminated: run it again to go on\n"


def test_an_error_is_one_write(monkeypatch, tmp_path):
    """Several processes tell theirs at once, and launchers start them unbuffered."""
    written: list[str] = []
    monkeypatch.setattr("sys.stderr", SimpleNamespace(write=written.append, flush=lambda: None, isatty=lambda: False))
    assert main(["train", str(tmp_path / "none.py")]) == 2
    assert len(written) == 1 and written[0].startswith("error: ") and written[0].count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "told"),
    [("get_flops", "did you mean flops?"), ("trian", "did you mean train?"), ("xyzzy", "give one of train, search")],
)
def test_a_command_that_there_is_not(capsys, typed, told):
    with pytest.raises(SystemExit, match="2"):
        main([typed, "c.py"])
    assert capsys.readouterr().err.startswith(f"error: there is no command {typed!r}: {told}")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["slim", "c.py", "--budegt", "60%"], "no option --budegt: did you mean --budget?"),
        (["slim", "c.py", "--budegt=60%", "--budget", "60%"], "no option --budegt: did you mean --budget?"),
        (["train", "--xyzzy"], "no option --xyzzy (mmrazor-lite train --help shows what it takes)"),
    ],
)
def test_a_misspelt_option_is_named_before_what_is_missing(capsys, tmp_path, monkeypatch, typed, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        raise SystemExit(main(typed))
    errors = capsys.readouterr().err
    assert told in errors and errors.count("\n") == 1


def test_a_damaged_image_is_told_by_us_alone(root):
    """OpenCV writes its own lines to the terminal, from C++."""
    words = "import sys, numpy, mmrazor_lite.cli as cli; cli.main(['configs']); import cv2"
    decode = "cv2.imdecode(numpy.frombuffer(b'GIF', numpy.uint8), 1)"
    done = subprocess.run([sys.executable, "-c", f"{words}; {decode}"], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_library_warns_of_is_one_line_and_said_once():
    """Python writes two: a path of the library, and a line of its code."""
    code = """
import sys, warnings
from mmrazor_lite.cli import main
def warned(args):
    for level in (1, 1, 2):
        warnings.warn("no such\\n  file", stacklevel=level)
sys.modules["mmrazor_lite.cli.main"].run = warned
before = warnings.formatwarning
status = main(["configs"])
assert warnings.formatwarning is before
sys.exit(status)
"""
    found = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "warning: no such file\n")
