"""How a run ends from outside, and that it is alone in its folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from robustness.kills import assert_equal
from robustness.processes import KILLED, free_port, run, start, start_server

from mmrazor_lite.cli import main
from mmrazor_lite.export import read_checkpoint

CONFIG = Path(__file__).with_name("spos") / "search.py"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def context():
    """Of processes that have imported everything."""
    return start_server()


def words(folder: Path, *more: str, epochs: int = 999, readers: int = 0) -> list:
    options = ["search_cfg=None", f"train_cfg.max_epochs={epochs}", "param_scheduler.end=999"]
    if readers:
        options += [f"train_dataloader.num_workers={readers}", "train_dataloader.persistent_workers=True"]
    options += ["default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=1"]
    return ["train", CONFIG, "--work-dir", folder, *more, "--cfg-options", *options]


def wait_for(folder: Path, name: str, processes: list) -> None:
    while not (folder / name).exists():
        assert all(process.exitcode is None for process in processes), (folder.parent / "log").read_text()[-3000:]
        time.sleep(0.01)


def children(process: int) -> list[int]:
    files = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


@pytest.mark.parametrize(("ranks", "readers"), [(1, 0), (1, 2), (2, 0)])
def test_sigterm_ends_with_one_line_and_the_run_goes_on(context, tmp_path, ranks, readers):
    """Sent to all processes of a run, as a queue of jobs does it: to those that read the images too."""
    folder, log = tmp_path / "run", tmp_path / "log"
    processes = start(context, words(folder, readers=readers), log, ranks)
    wait_for(folder, "last_checkpoint", processes)
    others = [child for process in processes for child in children(process.pid)]
    assert len(others) >= readers
    for process in processes:
        process.terminate()
    for child in others:
        os.kill(child, signal.SIGTERM)
    for process in processes:
        process.join(PATIENCE)
    text = log.read_text()
    assert [process.exitcode for process in processes] == [128 + signal.SIGTERM] * ranks, text[-3000:]
    assert "Traceback" not in text
    assert text.count("terminated: --resume continues from what was kept") == 1, text[-3000:]
    assert not list(folder.glob(".*.tmp")) and not (folder / "run.lock").exists()
    done = int(Path((folder / "last_checkpoint").read_text()).stem.removeprefix("epoch_"))
    status, _ = run(context, words(folder, "--resume", epochs=done + 1, readers=readers), log, ranks=ranks)
    assert status == 0, log.read_text()[-3000:]
    if ranks == 1:
        whole = tmp_path / "whole"
        assert run(context, words(whole, epochs=done + 1, readers=readers), log)[0] == 0
        assert_equal(*(read_checkpoint(place / f"epoch_{done + 1}.pth") for place in (folder, whole)), "weights")


def test_a_second_run_in_the_folder_is_refused(context, tmp_path, capsys):
    """Two processes of one run share it; a killed run is not in the way."""
    folder, log = tmp_path / "run", tmp_path / "log"
    processes = start(context, words(folder), log, ranks=2)
    wait_for(folder, "last_checkpoint", processes)
    before = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert main([str(word) for word in words(folder, "--resume", epochs=1)]) == 2
    error = capsys.readouterr().err
    assert f"{folder} is in use by process {processes[0].pid} on " in error and error.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == before
    for process in processes:
        process.kill()
        process.join(PATIENCE)
    assert processes[0].exitcode == KILLED and (folder / "run.lock").exists()
    assert run(context, words(folder, "--resume", epochs=1), log)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_launcher_that_ends_takes_its_processes_along(root, tmp_path, sign):
    folder = tmp_path / "run"
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PORT": str(free_port()),
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
    }
    config, *rest = words(folder)[1:]
    line = [root / "tools/dist_train.sh", config, "2", *rest]
    with open(tmp_path / "log", "w") as log:
        launcher = subprocess.Popen(line, stdout=log, stderr=log, env=environment)
        while not (folder / "last_checkpoint").exists():
            assert launcher.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.05)
        launcher.send_signal(sign)
        launcher.wait(PATIENCE)
    time.sleep(3)
    text = (tmp_path / "log").read_text()
    pointer = (folder / "last_checkpoint").read_text()
    time.sleep(3)
    assert pointer == (folder / "last_checkpoint").read_text() and "Traceback" not in text
    if sign == signal.SIGTERM:
        assert launcher.returncode == 143
        assert text.splitlines()[-1] == "terminated: --resume continues from what was kept"
        assert text.count("terminated:") == 1
    else:
        assert "is gone, this run ends" in text
