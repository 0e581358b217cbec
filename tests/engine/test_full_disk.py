"""A full disk during a training: one line, and what was written before is whole."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
from disks import at_most

from mmrazor_lite.engine.logs import calm, survive_full_disk
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint

NONE = dict.fromkeys(("val_dataloader", "val_evaluator", "val_cfg"))


def test_full_while_a_checkpoint_is_written(runner, run_config):
    """The newest file before it is whole and named, and a resumed run goes on from there."""
    run = runner({**run_config(), **NONE})
    folder, save = Path(run.work_dir), run.save_checkpoint

    def saving(place, name, **options):
        with at_most(2000 if name == "epoch_2.pth" else -1):
            save(place, name, **options)

    run.save_checkpoint = saving
    with pytest.raises(UserError, match=r"epoch_2\.pth cannot be written \(File too large\); what was there before"):
        run.train()
    assert sorted(path.name for path in folder.glob("*.pth")) == ["epoch_1.pth"] and not list(folder.glob(".*.tmp"))
    assert Path((folder / "last_checkpoint").read_text()).name == "epoch_1.pth"
    runner({**run_config(resume=True), **NONE}).train()
    assert read_checkpoint(folder / "epoch_3.pth")["meta"]["epoch"] == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
def test_a_log_that_cannot_be_written_is_told_once(capsys):
    """Python would print a traceback for every line."""
    logger = logging.Logger("full")
    logger.addHandler(logging.FileHandler("/dev/full"))
    logger.addHandler(shown := logging.StreamHandler())
    survive_full_disk(logger)
    calm(logger)
    logger.info("Config:\n" + "line\n" * 100)
    for _ in range(3):
        logger.info("Epoch(train)")
    shown.flush()
    lines = capsys.readouterr().err.splitlines()
    reason = os.strerror(errno.ENOSPC)
    warning = f"warning: the log /dev/full cannot be written ({reason}); the run goes on without it"
    assert lines == [warning, *["Epoch(train)"] * 3]
