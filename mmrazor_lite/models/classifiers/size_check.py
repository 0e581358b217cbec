"""Do network, head, loss and labels agree? Said before training, not in the middle of a traceback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.graph import evaluating

from .outputs import separate
from .plain import PlainClassifier


@torch.no_grad()
def check_sizes(classifier: PlainClassifier, input_shape: Sequence[int]) -> None:
    """Run one image of shape (C, H, W) in eval mode, and compare the sizes of network, head, loss and labels.

    A preprocessor that makes soft labels and was not told the number of classes takes it from the logits.

    Raises:
        UserError: It does not run, its output is no logits, or two sizes differ.
    """
    first = next(classifier.parameters(), torch.empty(0))
    image = torch.zeros((1, *input_shape), device=first.device, dtype=first.dtype)
    with evaluating(classifier), torch.random.fork_rng(devices=[]):
        outputs = _outputs(classifier, image)
    if isinstance(outputs, Tensor):
        _check_classes(classifier, outputs)


def _outputs(classifier: PlainClassifier, image: Tensor) -> Any:
    title, shape = _title(classifier), "x".join(str(size) for size in image.shape[1:])
    outputs = _run(lambda: classifier.net(image), f"{title}: cannot run on an image of {shape}")
    if not classifier.takes_features:
        return separate(outputs)[0]
    feats = _run(lambda: classifier.features(outputs), f"{title}: no features for the head")
    _check_features(feats[-1], classifier.head, title)
    return _run(lambda: classifier.head(feats), f"{title}: its head cannot read features {_shape(feats[-1])}")


def _check_features(feats: Any, head: nn.Module, title: str) -> None:
    wanted = getattr(head, "in_channels", None)
    if not isinstance(wanted, int) or not isinstance(feats, Tensor):
        return
    if feats.dim() == 4 and isinstance(getattr(head, "fc", None), nn.Linear):
        raise UserError(
            f"{title}: gives maps {_shape(feats)}, {type(head).__name__} takes (N, channels); add "
            "neck=dict(type='GlobalAveragePooling')"
        )
    if feats.dim() > 1 and feats.shape[1] != wanted:
        raise UserError(
            f"{title}: head.in_channels is {wanted}, the network gives {feats.shape[1]} features; set "
            f"head.in_channels={feats.shape[1]}"
        )


def _check_classes(classifier: PlainClassifier, logits: Tensor) -> None:
    title = _title(classifier)
    if logits.dim() != 2:
        raise UserError(
            f"{title}: gives a tensor {_shape(logits)}, expected logits (N, classes); for features add head=dict("
            "type='LinearClsHead', ...), and neck=dict(type='GlobalAveragePooling') in front of it for maps"
        )
    classes, preprocessor = logits.shape[1], classifier.data_preprocessor
    if getattr(preprocessor, "to_onehot", False) and preprocessor.num_classes is None:
        preprocessor.num_classes = classes
    for name, part in (("loss", getattr(classifier.head, "loss_module", None)), ("data_preprocessor", preprocessor)):
        said = getattr(part, "num_classes", None)
        if said is not None and said != classes:
            raise UserError(f"{title}: gives {classes} logits, {name}.num_classes is {said}; make them equal")


def _title(classifier: PlainClassifier) -> str:
    return f"architecture {type(classifier.net).__name__}"


def _run(call: Callable[[], Any], problem: str) -> Any:
    try:
        return call()
    except Exception as error:  # whatever the user's network raises
        raise UserError(f"{problem}: {reason(error)}") from error


def _shape(tensor: Any) -> tuple | str:
    return tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
