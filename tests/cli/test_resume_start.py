"""``--resume`` where there is nothing to resume yet: the command of a run that may be killed is always the same."""

from __future__ import annotations

import argparse

import pytest
from mmengine import Config

from mmrazor_lite.cli.train import apply_train_flags
from mmrazor_lite.errors import UserError

FLAGS = {"amp": False, "auto_scale_lr": False, "reset_head": False, "config": "a.py"}


def applied(folder, load_from, **flags):
    cfg = Config({"work_dir": str(folder), "load_from": load_from, "resume": False})
    apply_train_flags(cfg, argparse.Namespace(**{**FLAGS, **flags}))
    return cfg.load_from, cfg.resume


def test_a_run_starts_from_its_checkpoint_and_then_goes_on_with_its_own(tmp_path):
    assert applied(tmp_path, "start.pth", resume="auto") == ("start.pth", False)
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_1.pth"))
    assert applied(tmp_path, "start.pth", resume="auto") == (None, True)


def test_without_a_start_the_runner_says_that_there_is_nothing(tmp_path):
    assert applied(tmp_path, None, resume="auto") == (None, True)


def test_the_head_is_left_out_only_where_a_run_starts(tmp_path):
    with pytest.raises(UserError, match="without --resume"):
        applied(tmp_path, "start.pth", resume="auto", reset_head=True)
