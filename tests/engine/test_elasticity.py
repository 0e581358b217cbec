"""What a search of TF-NAS says before its first epoch."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from mmengine.optim import OptimWrapperDict

from mmrazor_lite.engine.hooks.elasticity import ElasticityHook
from mmrazor_lite.models.algorithms.tfnas import TFNAS


@pytest.mark.parametrize(("epochs", "warned"), [(10, True), (3, True), (11, False), (90, False)])
def test_a_search_whose_epochs_train_weights_only_says_so(caplog, epochs, warned):
    algorithm = object.__new__(TFNAS)
    vars(algorithm).update(epochs_without_arch=10, target=5.0, tolerance=0.01, start_epoch=lambda epoch: None)
    runner = SimpleNamespace(
        model=algorithm,
        optim_wrapper=object.__new__(OptimWrapperDict),
        epoch=0,
        max_epochs=epochs,
        logger=logging.getLogger("elasticity"),
    )
    with caplog.at_level(logging.WARNING):
        ElasticityHook().before_train(runner)
    found = [record.getMessage() for record in caplog.records]
    assert [f"none of the {epochs} epochs trains the architecture" in text for text in found] == [True] * warned
