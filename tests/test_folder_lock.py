"""A folder is one run's: another is refused, a killed one is not in the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmrazor_lite import folder_lock
from mmrazor_lite.errors import UserError

HOLDER = """
import sys, time
from mmrazor_lite.folder_lock import hold
hold(sys.argv[1], "train a.py")
child = __import__("os").fork()  # as those that read images: it outlives a kill and must not keep the folder
if child:
    print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(root, tmp_path):
    """A process that holds ``tmp_path / 'run'``, and its child."""
    words = [sys.executable, "-c", HOLDER, tmp_path / "run"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)})
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)


def test_a_file_that_another_run_adds_to(root, tmp_path):
    """Two collections in work dirs of their own, with one file."""
    hold = HOLDER.replace("hold", "hold_file")
    words, env = [sys.executable, "-c", hold, tmp_path / "scores.jsonl"], {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as process:
        child = int(process.stdout.readline())
        try:
            with pytest.raises(UserError, match=r"scores\.jsonl is in use by process .* or give another file"):
                folder_lock.hold_file(tmp_path / "scores.jsonl", "collect")
            with folder_lock.released():
                folder_lock.hold_file(tmp_path / "others.jsonl", "collect")
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)
    with folder_lock.released():
        folder_lock.hold_file(tmp_path / "sub" / ".." / "scores.jsonl", "collect")
    assert not list(tmp_path.glob(".*.lock"))


def test_another_process_is_refused_until_it_is_gone(holder, tmp_path):
    folder = tmp_path / "run"
    left = folder / ".epoch_3.pth.abcd1234.tmp"
    left.write_bytes(b"half")
    for _ in range(2):
        with pytest.raises(UserError) as error, folder_lock.released():
            folder_lock.hold(folder, "search b.py")
        assert f"is in use by process {holder.pid} on " in str(error.value) and "train a.py, since 2" in str(
            error.value
        )
    assert json.loads((folder / "run.lock").read_text())["process"] == holder.pid and left.exists()
    holder.kill()
    holder.wait()
    assert (folder / "run.lock").exists()
    with folder_lock.released():
        folder_lock.hold(folder, "search b.py")
        assert json.loads((folder / "run.lock").read_text())["what"] == "search b.py"
        assert not left.exists()
        folder_lock.hold(folder, "a step of it")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("holder_of", "alive"), [("here, gone", False), ("here, alive", True), ("elsewhere", True), ("nobody", False)]
)
def test_a_disk_without_locks_goes_by_the_words(monkeypatch, tmp_path, holder_of, alive):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "lockf", refuse)
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = {"host": folder_lock.platform.node(), "what": "x"}
    words = {
        "here, gone": {**here, "process": gone.pid},
        "here, alive": {**here, "process": os.getppid()},
        "elsewhere": {"host": "another", "process": 1},
        "nobody": {},
    }[holder_of]
    (tmp_path / "run.lock").write_text(json.dumps(words))
    with folder_lock.released():
        if alive:
            with pytest.raises(UserError, match="is in use by process"):
                folder_lock.hold(tmp_path, "train")
        else:
            folder_lock.hold(tmp_path, "train")


def test_no_empty_folder_is_left(tmp_path):
    with folder_lock.released():
        folder_lock.hold(tmp_path / "a" / "b", "train")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        with pytest.raises(UserError, match="file"):
            folder_lock.hold(tmp_path / name, "train")


def test_processes_that_start_together_get_it_one_after_the_other(root, tmp_path):
    """Also while the one before removes its file: nobody holds a file that has no name any more."""
    script = """
import sys, os
from mmrazor_lite.folder_lock import hold, released
from mmrazor_lite.errors import UserError
won = 0
while won < 30:
    try:
        with released():
            hold(sys.argv[1], "x")
            with open(sys.argv[1] + ".in", "x"):
                won += 1
            os.unlink(sys.argv[1] + ".in")
    except UserError:
        pass
"""
    words = [sys.executable, "-c", script, tmp_path / "run"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    processes = [subprocess.Popen(words, env=environment) for _ in range(3)]
    deadline = time.monotonic() + 60
    assert [process.wait(deadline - time.monotonic()) for process in processes] == [0, 0, 0]
