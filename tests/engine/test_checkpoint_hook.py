"""Files appear whole, the pointer follows them, old ones go last."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrazor_lite.errors import UserError


def config(run_config, **hook) -> dict:
    none = dict.fromkeys(("val_dataloader", "val_evaluator", "val_cfg"))
    return run_config(default_hooks={"checkpoint": {"type": "CheckpointHook", **hook}}, **none)


def names(run) -> list[str]:
    return sorted(path.name for path in Path(run.work_dir).glob("*.pth"))


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ({"max_keep_ckpts": 2}, ["epoch_2.pth", "epoch_3.pth"]),
        ({"interval": 2}, ["epoch_2.pth", "epoch_3.pth"]),
        ({"interval": -1}, ["epoch_3.pth"]),
        ({"interval": 2, "save_last": False}, ["epoch_2.pth"]),
        ({"interval": 5, "by_epoch": False}, ["iter_10.pth", "iter_15.pth", "iter_18.pth", "iter_5.pth"]),
    ],
)
def test_which_files_are_kept(runner, run_config, hook, expected):
    run = runner(config(run_config, **hook))
    run.train()
    assert names(run) == expected


def test_a_kill_while_writing_leaves_the_files_before_it(runner, run_config, monkeypatch):
    """The pointer and the old file are touched only when the new file is complete."""
    run = runner(config(run_config, max_keep_ckpts=1))
    folder = Path(run.work_dir)
    (folder / ".epoch_1.pth.abcd1234.tmp").write_bytes(b"left by a kill")
    (folder / ".notes.tmp").write_bytes(b"of somebody else")
    import torch

    save, calls = torch.save, []

    def dying(content, file, **options):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half of it")
            raise KeyboardInterrupt
        save(content, file, **options)

    monkeypatch.setattr("mmrazor_lite.checkpoints.checkpoint_file.torch.save", dying)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert names(run) == ["epoch_1.pth"]
    assert (folder / "last_checkpoint").read_text().endswith("epoch_1.pth")
    assert sorted(path.name for path in folder.glob(".*.tmp")) == [".notes.tmp"]


def test_what_a_kill_left_over_goes_on_resume(runner, run_config):
    """Killed after the last file, before the old one went: nothing is left to train, and the old one still goes."""
    run = runner(config(run_config, max_keep_ckpts=2))
    run.train()
    folder = Path(run.work_dir)
    (folder / "epoch_1.pth").write_bytes((folder / "epoch_2.pth").read_bytes())
    again = config(run_config, max_keep_ckpts=2)
    again["resume"] = True
    runner(again).train()
    assert names(run) == ["epoch_2.pth", "epoch_3.pth"]


def test_equal_runs_write_equal_files(runner, run_config):
    files = []
    for work_dir in ("a", "b"):
        run = runner({**config(run_config, interval=-1), "work_dir": run_config(work_dir)["work_dir"]})
        run.train()
        files.append((Path(run.work_dir) / "epoch_3.pth").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ({"save_bst": "auto"}, r"unknown key 'save_bst' \(did you mean 'save_best'"),
        ({"save_best": 3}, "save_best=3: give a name, or a list of names"),
        ({"save_best": ["auto", "accuracy/top1"]}, "give each metric once, or 'auto' alone"),
        ({"save_best": "accuracy/top1", "rule": "best"}, "rule='best': allowed are 'greater' and 'less'"),
        ({"save_best": ["a.top1", "b.top1"], "rule": ["less"] * 3}, "rule has 3 entries, save_best 2"),
        ({"save_best": "figure"}, "is more or less of it better"),
        ({"interval": 0}, "interval is 0"),
        ({"max_keep_ckpts": 0}, "max_keep_ckpts is 0"),
    ],
)
def test_bad_options_are_refused(runner, run_config, hook, message):
    with pytest.raises(UserError, match=message):
        runner(config(run_config, **hook))


def test_counting_epochs_in_a_loop_without_them_is_refused(runner, run_config):
    loop = {"train_cfg": {"by_epoch": False, "max_iters": 3}, "param_scheduler": None}
    with pytest.raises(UserError, match="by_epoch: set it to False"):
        runner({**config(run_config), **loop}).train()


def test_what_is_told_can_be_resumed_from(runner, run_config, monkeypatch):
    """A run that ends with the line that names a file goes on from that file."""
    run = runner(config(run_config))
    told, info = [], run.logger.info

    def tell(text, *rest) -> None:
        if str(text).startswith("wrote "):
            told.append((text.split()[1], (Path(run.work_dir) / "last_checkpoint").read_text()))
        info(text, *rest)

    monkeypatch.setattr(run.logger, "info", tell)
    run.train()
    assert len(told) == 3 and all(Path(written).resolve() == Path(pointer) for written, pointer in told)
