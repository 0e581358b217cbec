"""Which of several repairs is handed back."""

from __future__ import annotations

import torch
from torch import nn

from mmrazor_lite.slimming import repair
from mmrazor_lite.slimming.judging import Judge
from mmrazor_lite.slimming.prepared import prepare


def test_one_image_near_a_change_of_class_does_not_decide(monkeypatch):
    """19 images are sure of their class, one is not; a refit turns that one, statistics make all others less sure."""
    sure = torch.cat([torch.tensor([[10.0, 0.0]] * 19), torch.tensor([[0.1, 0.0]])])
    turned = sure.clone()
    turned[19] = torch.tensor([-1.9, 0.0])
    given = {"original": sure, "refit": turned, "both": 0.5 * sure, "recalibrated": 0.1 * sure}

    def giving(name: str) -> nn.Module:
        module = nn.Module()
        module.forward = lambda x: given[name]
        return module

    class Report:
        skipped, notes = {}, ()

    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    prepared = prepare(plain.eval(), (3, 6, 6))
    refitted = giving("refit")
    monkeypatch.setattr(repair, "refit_of", lambda *args: (refitted, Report))
    monkeypatch.setattr(repair, "recalibrated", lambda net, seen: giving("both" if net is refitted else "recalibrated"))
    judge = Judge(giving("original"), [(torch.randn(20, 3, 6, 6), None)])
    found = repair.repair(prepared, {"0": 4}, [], judge)
    tried = {stage.name: stage.held_out for stage in found.tried}
    assert tried[repair.REFIT].distance > tried[repair.BOTH].distance, "as it is, the one image decides"
    assert tried[repair.REFIT].softened < tried[repair.BOTH].softened and found.name == repair.REFIT
    assert found.network is refitted and "nearest to the original is refit: distance" in found.notes[0]
    assert "at temperature 4, of cut" in found.notes[0]
