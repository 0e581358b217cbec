"""Files appear whole or not at all, one or several, on a full disk, after a kill, and under a signal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from disks import at_most

from mmrazor_lite.errors import UserError
from mmrazor_lite.export import save_checkpoint
from mmrazor_lite.fileio import FileSet, atomic_write, check_outputs, remove_left_overs, write_text_atomic


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(folder: Path, text: str) -> None:
    with FileSet() as files:
        for name in "abc":
            write_text_atomic(files.new(folder / name), text)
        files.without(folder / "d")


def test_several_files_get_their_names_together(tmp_path):
    for name in "abd":
        (tmp_path / name).write_text("old")
    with pytest.raises(ZeroDivisionError), FileSet() as files:
        write_text_atomic(files.new(tmp_path / "a"), "new")
        write_text_atomic(files.new(tmp_path / "c"), "new")
        files.without(tmp_path / "d")
        _ = 1 / 0
    assert contents(tmp_path) == dict.fromkeys("abd", "old")
    write(tmp_path, "new")
    assert contents(tmp_path) == dict.fromkeys("abc", "new")


def test_what_is_dropped_is_not_written(tmp_path):
    with FileSet() as files:
        for name in "ab":
            write_text_atomic(files.new(tmp_path / name), name)
        files.without(tmp_path / "a")
    assert contents(tmp_path) == {"b": "b"}


def test_a_full_disk_changes_nothing_and_is_told_in_one_line(tmp_path):
    write(tmp_path, "old")
    with pytest.raises(UserError) as error, at_most(100), FileSet() as files:
        write_text_atomic(files.new(tmp_path / "a"), "new")
        write_text_atomic(files.new(tmp_path / "b"), "new" * 1000)
    text = f"{tmp_path}/b cannot be written (File too large); what was there before is kept. Make room, then go on"
    assert str(error.value) == text
    assert contents(tmp_path) == dict.fromkeys("abc", "old")


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_a_full_disk_while_a_checkpoint_is_written(tmp_path, size):
    """torch tells of what followed from it, not of the disk."""
    path = tmp_path / "epoch_1.pth"
    save_checkpoint({"state_dict": {"a": torch.ones(2)}}, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"epoch_1\.pth cannot be written \(File too large\)"), at_most(size):
        save_checkpoint({"state_dict": {"a": torch.ones(100_000)}}, path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["epoch_1.pth"]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_between_the_names(tmp_path, number, before):
    """The files of before or the new ones, in order, and the next start removes what is left."""
    write(tmp_path, "old")
    child = os.fork()
    if child == 0:
        replace, done = os.replace, []

        def dying(source, target):
            done.append(target)
            if len(done) == number and before:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
            if len(done) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = dying
        try:
            write(tmp_path, "new")
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    whole = {name: text for name, text in contents(tmp_path).items() if not name.startswith(".")}
    new = number - before
    assert whole == {"a": "old", "b": "old", "c": "old"} | dict.fromkeys("abc"[:new], "new")
    write(tmp_path, "again")
    assert contents(tmp_path) == dict.fromkeys("abc", "again")


def test_temporaries_of_the_living_stay(tmp_path):
    for name in (".a.abcd1234.tmp", ".b.abcd1234.tmp", ".notes.tmp", "a.tmp"):
        (tmp_path / name).write_text("left")
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("new")
        remove_left_overs(tmp_path, "a")
        assert sorted(contents(tmp_path)) == sorted([temporary.name, ".b.abcd1234.tmp", ".notes.tmp", "a.tmp"])
        remove_left_overs(tmp_path)
    assert sorted(contents(tmp_path)) == [".notes.tmp", "a", "a.tmp"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_last_name(tmp_path, monkeypatch, number):
    class Ended(BaseException):
        pass

    def end(*_):
        raise Ended

    replace = os.replace

    def signalled(source, target):
        os.kill(os.getpid(), number)
        replace(source, target)

    before = signal.signal(number, end)
    monkeypatch.setattr(os, "replace", signalled)
    try:
        with pytest.raises(Ended):
            write(tmp_path, "new")
    finally:
        signal.signal(number, before)
    assert contents(tmp_path) == dict.fromkeys("abc", "new")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["folder"], "folder is a folder, a file is to be written there"),
        (["file/below"], "file is a file, not a folder"),
        (["file"], "file is read by this step, which would replace it"),
        (["new", "deep/../new"], "new would be written twice by this step"),
    ],
)
def test_bad_outputs_are_refused(tmp_path, outputs, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message):
        check_outputs([tmp_path / name for name in outputs], [tmp_path / "file"])
    check_outputs([tmp_path / "new", tmp_path / "other" / "new"], [tmp_path / "file"])
