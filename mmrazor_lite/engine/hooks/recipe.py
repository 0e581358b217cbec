"""mmpretrain's switch of the recipe while training, for algorithms."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.losses import CrossEntropyLoss
from torch import nn

from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import HOOKS


@HOOKS.register_module()
class RecipeHook(SwitchRecipeHook):
    """Switches the transforms, the augmentation of batches and the loss at given epochs.

    As mmpretrain's ``SwitchRecipeHook``, whose place it takes: the loss is the one of the architecture's head, and
    without augmentation of batches labels are no longer turned into scores.

    Args:
        schedule: Dicts of ``action_epoch`` and some of ``train_pipeline``, ``batch_augments`` and ``loss``.

    Raises:
        UserError: What is to be switched is not there; before the training starts.
    """

    def before_train(self, runner: Runner) -> None:
        """Look whether everything in the schedule can be switched; a resumed run switches what it has passed."""
        for recipe in self.schedule.values():
            if "loss" in recipe and _owner_of_loss(unwrapped(runner.model)) is None:
                raise UserError("SwitchRecipeHook: the model has no head with a loss of mmpretrain's; remove 'loss'")
            if "train_pipeline" in recipe:
                _check_pipeline(runner.train_loop.dataloader.dataset)
        super().before_train(runner)

    @staticmethod
    def _switch_batch_augments(runner: Runner, batch_augments: Any) -> None:
        SwitchRecipeHook._switch_batch_augments(runner, batch_augments)
        model = unwrapped(runner.model)
        loss = getattr(_owner_of_loss(model), "loss_module", None)
        wants_labels = isinstance(loss, CrossEntropyLoss) and not (loss.use_soft or loss.use_sigmoid)
        if batch_augments is not None or wants_labels:  # scores are for mixed images, and for losses that ask for them
            model.data_preprocessor.to_onehot = batch_augments is not None

    @staticmethod
    def _switch_loss(runner: Runner, loss_module: nn.Module) -> None:
        _owner_of_loss(unwrapped(runner.model)).loss_module = loss_module


def _owner_of_loss(model: nn.Module) -> nn.Module | None:
    """The module whose ``loss_module`` is mmpretrain's loss."""
    owners = [model, getattr(model, "head", None), getattr(getattr(model, "architecture", None), "head", None)]
    return next((part for part in owners if hasattr(part, "loss_module")), None)


def _check_pipeline(dataset: Any) -> None:
    """Refuse a data set whose transforms cannot be exchanged: there are none, or the images went through them."""
    parts = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if getattr(dataset, "seeded_batch", None) is not None:
        raise UserError(
            "SwitchRecipeHook: train_pipeline cannot be switched, the images went through theirs when they were put on "
            "the device; remove it from the schedule, or read the images without DeviceImages"
        )
    if hasattr(dataset, "pipeline"):
        return
    if parts == [None]:
        raise UserError(f"SwitchRecipeHook: {type(dataset).__name__} has no pipeline to switch; remove train_pipeline")
    for part in parts:
        _check_pipeline(part)
