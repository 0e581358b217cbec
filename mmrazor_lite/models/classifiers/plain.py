"""A classifier around any network. Letters: N batch, C channels, H W space, K classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS

from .nets import build_net
from .outputs import as_tuple, separate


@MODELS.register_module()
class PlainClassifier(BaseModel):
    """Trains, tests and slims a network that knows nothing of losses: torchvision's, timm's or one's own.

    The network gives logits (N, K). Where it gives a tuple, a list or a dict, the first entry (of a dict: ``logits``
    or ``out``, if there is one) are the logits; further entries of the same shape are auxiliary logits, with a loss of
    their own while training (GoogLeNet, Inception). With ``head``, what it gives are features instead, a tensor or a
    tuple of them as mmpretrain's backbones give, and a neck and head of mmpretrain make the logits.

    Without a head, the state dict has the names of the network itself, so that its own library reads and writes the
    same files. With one, they start with ``net.``, ``neck.`` and ``head.``. The names of layers in search spaces and
    in patterns start with ``net.`` in both cases. ``init_weights()`` leaves the network as its constructor made it.

    Args:
        net: Config of the network (see :func:`build_net`), or the network.
        loss: Loss of mmpretrain; ``CrossEntropyLoss`` by default. With ``head`` it becomes the head's.
        neck: Config of a neck of mmpretrain, such as ``GlobalAveragePooling``; needs ``head``.
        head: Config of a head of mmpretrain.
        aux_weight: Weight of the loss of auxiliary logits; 0.4 by default.
        topk: For the accuracy in the training log; (1,) by default.
        cal_acc: Log the training accuracy.
        train_cfg: ``dict(augments=...)``, as for mmpretrain's ``ImageClassifier``: mixup, cutmix.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor`` or another, or the preprocessor.
        init_cfg: mmengine's initialisation; ``type='Pretrained'`` reads a file with the names above.

    Raises:
        UserError: The network cannot be built, or options contradict each other.
    """

    def __init__(
        self,
        net: Mapping | nn.Module,
        loss: Mapping | nn.Module | None = None,
        neck: Mapping | nn.Module | None = None,
        head: Mapping | nn.Module | None = None,
        aux_weight: float | None = None,
        topk: Sequence[int] | None = None,
        cal_acc: bool | None = None,
        train_cfg: Mapping | None = None,
        data_preprocessor: Mapping | nn.Module | None = None,
        init_cfg: Any = None,
    ) -> None:
        from mmpretrain.registry import MODELS as PRETRAIN_MODELS  # slow to import

        if head is None and neck is not None:
            raise UserError("PlainClassifier: neck needs a head that makes logits of its features")
        if head is not None and aux_weight is not None:
            raise UserError("PlainClassifier: aux_weight is for a network that gives logits; with a head remove it")
        options = {"loss": loss, "topk": topk, "cal_acc": cal_acc}
        given = {key: value for key, value in options.items() if value is not None}
        head_config = {"type": "mmpretrain.ClsHead"} if head is None else head
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            net = net if isinstance(net, nn.Module) else build_net(net)
            preprocessor = _build(PRETRAIN_MODELS, _preprocessor(data_preprocessor, train_cfg), "data_preprocessor", {})
            super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
            self.net = net
            self.neck = _build(PRETRAIN_MODELS, neck, "neck", {}) if neck is not None else None
            self.head = _build(PRETRAIN_MODELS, head_config, "head" if head is not None else "loss", given)
        self.takes_features = head is not None
        self.aux_weight = 0.4 if aux_weight is None else aux_weight
        if not self.takes_features:
            self.register_state_dict_post_hook(_names_of_net)
            self.register_load_state_dict_pre_hook(_names_of_wrapper)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor") -> Any:
        """Run the network on ``inputs`` (N, C, H, W).

        Args:
            inputs: Images.
            data_samples: mmpretrain's ``DataSample`` of every image; needed for losses.
            mode: ``loss`` for a dict of losses, ``predict`` for a list of samples with scores, ``tensor`` for what the
                network itself returns (with auxiliary logits, if it has them) or the logits of the head.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode != "tensor":
            raise RuntimeError(f"invalid mode '{mode}', allowed are loss, predict and tensor")
        outputs = self.net(inputs)
        return self.head(self.features(outputs)) if self.takes_features else outputs

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return ``loss``, and ``aux_loss`` (weighted) where the network gives auxiliary logits."""
        outputs = self.net(inputs)
        if self.takes_features:
            return self.head.loss(self.features(outputs), data_samples)
        logits, auxiliary = separate(outputs)
        losses = self.head.loss((logits,), data_samples)
        if auxiliary and self.aux_weight:
            target = _target(data_samples)
            parts = [self.head.loss_module(item, target, avg_factor=len(item)) for item in auxiliary]
            losses["aux_loss"] = self.aux_weight * sum(parts)
        return losses

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Return a ``DataSample`` with scores (K,) and label per image."""
        outputs = self.net(inputs)
        feats = self.features(outputs) if self.takes_features else (separate(outputs)[0],)
        return self.head.predict(feats, data_samples)

    def init_weights(self) -> None:
        """Initialise neck and head; a network of mmengine's kind too, others did it in their constructor."""
        made = hasattr(self.net, "init_weights") and not isinstance(self.net, BaseModule)
        if made:
            self.net.is_init = True  # mmengine skips it; it would undo pretrained weights
        try:
            super().init_weights()
        finally:
            if made:
                del self.net.is_init

    def features(self, outputs: Any) -> tuple:
        """Return what the head takes, of what the network returned: a tuple of features, the last stage last."""
        feats = as_tuple(outputs)
        return feats if self.neck is None else as_tuple(self.neck(feats))


def as_classifier(module: nn.Module, data_preprocessor: Mapping | nn.Module | None = None) -> nn.Module:
    """Return ``module`` if it has losses of its own (mmengine's modes), or a :class:`PlainClassifier` around it."""
    if isinstance(module, BaseModel) or "mode" in inspect.signature(module.forward).parameters:
        return module
    return PlainClassifier(module, data_preprocessor=data_preprocessor)


def plain_module(module: nn.Module) -> nn.Module:
    """Return the network that a :class:`PlainClassifier` without a head only carries; other modules as they are."""
    return module.net if isinstance(module, PlainClassifier) and not module.takes_features else module


def _target(data_samples: list) -> Tensor:
    """Return the labels (N,), or after mixup their scores (N, K)."""
    if "gt_score" in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


def _preprocessor(config: Any, train_cfg: Mapping | None) -> Any:
    """Return the config of the data preprocessor, with the batch augmentations; or the preprocessor that was given."""
    if isinstance(config, nn.Module):
        if train_cfg:
            raise UserError(
                "PlainClassifier: train_cfg goes into a data_preprocessor given as a config, not as a module"
            )
        return config
    config = {"type": "mmpretrain.ClsDataPreprocessor", **(config or {})}
    if train_cfg:
        config.setdefault("batch_augments", dict(train_cfg))
    return config


def _build(registry: Any, config: Mapping | nn.Module, key: str, options: Mapping) -> nn.Module:
    """Build a neck or head; ``options`` go into it and may not be there already."""
    if isinstance(config, nn.Module):
        if options:
            raise UserError(f"PlainClassifier: {next(iter(options))} goes into the {key}, which is given as a module")
        return config
    twice = [name for name in options if name in config]
    if twice:
        raise UserError(f"PlainClassifier: {twice[0]} is given twice, inside {key} and beside it; keep one")
    try:
        return registry.build({**config, **options})
    except UserError:
        raise
    except Exception as error:  # whatever a part of mmpretrain raises for arguments it does not take
        name = options.get("loss", config) if key == "loss" else config
        kind = name.get("type") if isinstance(name, Mapping) else type(name).__name__
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"architecture.{key} {kind}: cannot be built ({reason})") from error


# Hooks are functions of the module, so that a copy of the classifier takes them along.


def _names_of_net(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """Drop ``net.`` from the names, in the order they have."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + key.removeprefix(prefix).removeprefix("net.")] = state.pop(key)


def _names_of_wrapper(module: nn.Module, state: dict, prefix: str, *_: Any) -> None:
    """Put ``net.`` in front of the names that are the network's."""
    parts = {name: part for name, part in module.named_children() if name != "net"}
    ours = {f"{prefix}{name}.{key}" for name, part in parts.items() for key in part.state_dict()}
    for key in [key for key in state if key.startswith(prefix) and key not in ours]:
        state[f"{prefix}net.{key.removeprefix(prefix)}"] = state.pop(key)
