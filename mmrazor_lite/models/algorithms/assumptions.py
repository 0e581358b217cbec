"""What a distillation loss takes for granted of the network, checked before it trains.

Shape letters: N batch, K classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import evaluating
from mmrazor_lite.models.classifiers import PlainClassifier, main_logits

SOFTMAX, SIGMOID, SCORES = "softmax", "sigmoid", "scores"  # what a loss makes of the outputs
# Types of losses and heads, of torch and of mmpretrain, that are sure to make something else of outputs than a softmax.
_MADE = {
    **dict.fromkeys(("FocalLoss", "AsymmetricLoss", "BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"), SIGMOID),
    **dict.fromkeys(("MultiLabelClsHead",), SIGMOID),
    **dict.fromkeys(("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "RegressionHead", "RegressionLoss"), SCORES),
    **dict.fromkeys(("MultiMarginLoss", "MultiLabelMarginLoss", "SoftMarginLoss", "HingeEmbeddingLoss"), SCORES),
}
_WORDS = {
    SOFTMAX: "a softmax over all classes",
    SIGMOID: "a sigmoid for each class",
    SCORES: "plain scores, which are no probabilities",
}
_FITTING = {SOFTMAX: "KLDivergence", SIGMOID: "BinaryKLDivergence"}


def check_distillation(architecture: nn.Module, distiller: nn.Module, input_shape: Sequence[int]) -> None:
    """Check that the outputs of ``architecture`` are what ``distiller`` compares.

    A distiller says in its attribute ``activation`` what it makes of logits, ``'softmax'`` or ``'sigmoid'``; one that
    says nothing takes them as they are. The network is run on one image of ``input_shape`` (C, H, W).

    Raises:
        UserError: The loss of the labels makes something else of them; the head gives other logits while its loss is
            computed; or there is no single tensor (N, K) of logits, or one of a single class.
    """
    head = getattr(architecture, "head", None) or architecture
    name, activation = type(distiller).__name__, getattr(distiller, "activation", None)
    made, by = made_of_outputs(head)
    if activation is not None and made is not None and made != activation:
        fitting = _FITTING.get(made)
        way = f"set algorithm.distiller=dict(type='{fitting}')" if fitting else "train without soft labels"
        more = "" if fitting else ": a list of subnets as algorithm.channel_cfg of AutoSlim, or SPOS"
        raise UserError(
            f"algorithm.distiller: {name} compares {_WORDS[activation]}, {by} takes the outputs for {_WORDS[made]}; "
            f"{way}{more}"
        )
    if head is not architecture and _takes_labels(head):
        raise UserError(
            f"algorithm.distiller: {type(head).__name__} changes its logits by the labels while its loss is computed, "
            "and the subnets would learn from changed ones; use another head, such as LinearClsHead, or train without "
            "soft labels: a list of subnets as algorithm.channel_cfg of AutoSlim, or SPOS"
        )
    _check_logits(_logits(architecture, input_shape), type(head).__name__, name, activation)


def made_of_outputs(head: nn.Module) -> tuple[str | None, str]:
    """What the loss of ``head`` makes of the outputs, and the part that says so; None where nothing tells."""
    for module in head.modules():
        kind = type(module).__name__
        if getattr(module, "use_sigmoid", False) is True:
            return SIGMOID, f"{kind}(use_sigmoid=True) of {type(head).__name__}"
        for base in type(module).__mro__:
            if base.__name__ in _MADE:
                return _MADE[base.__name__], kind if module is head else f"{kind} of {type(head).__name__}"
    softmax = any(type(module).__name__ in ("CrossEntropyLoss", "LabelSmoothLoss") for module in head.modules())
    return (SOFTMAX, f"the loss of {type(head).__name__}") if softmax else (None, "")


def _takes_labels(head: nn.Module) -> bool:
    """Whether the forward of a head takes more than features, as ArcFace's does."""
    names = [name for name in inspect.signature(head.forward).parameters if name not in ("args", "kwargs")]
    return any(name in ("target", "targets", "label", "labels", "gt_label") for name in names[1:])


@torch.no_grad()
def _logits(architecture: nn.Module, input_shape: Sequence[int]) -> object:
    first = next(architecture.parameters(), torch.empty(0))
    image = torch.zeros((1, *input_shape), device=first.device, dtype=first.dtype)
    try:
        with evaluating(architecture), torch.random.fork_rng(devices=[]):
            outputs = architecture(image, None, mode="tensor")
    except Exception as error:  # whatever the user's network raises
        reason = " ".join(str(error).split())[:200]
        shape = "x".join(map(str, input_shape))
        raise UserError(
            f"{type(architecture).__name__} cannot run on an image of {shape}: {type(error).__name__}: {reason}"
        ) from error
    return main_logits(outputs) if isinstance(architecture, PlainClassifier) else outputs


def _check_logits(logits: object, head: str, distiller: str, activation: str | None) -> None:
    if not isinstance(logits, Tensor):
        raise UserError(
            f"algorithm.distiller: {head} gives a {type(logits).__name__}, {distiller} needs one tensor of logits "
            "(N, classes); use a head that returns it, such as mmpretrain's LinearClsHead, or train without soft "
            "labels: a list of subnets as algorithm.channel_cfg of AutoSlim, or SPOS"
        )
    if logits.dim() != 2:
        raise UserError(
            f"algorithm.distiller: {head} gives a tensor {tuple(logits.shape)}, {distiller} needs logits (N, classes)"
        )
    if logits.shape[1] == 1 and activation == SOFTMAX:
        raise UserError(
            f"algorithm.distiller: {head} gives one output, and a softmax over one is always 1, so that no subnet "
            "would learn; give the head 2 classes, or a sigmoid and algorithm.distiller=dict(type='BinaryKLDivergence')"
        )
