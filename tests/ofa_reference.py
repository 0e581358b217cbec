"""The networks of Once-for-All in a straight line, from official names and shapes alone: nothing of the project.

Source: names and shapes of the official checkpoints; arXiv:1908.09791, section 3.3; MobileNetV3, arXiv:1905.02244.
Letters: C channels, k kernel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Of each elastic stage: stride, activation.
MOBILENET = ((2, "relu"), (2, "relu"), (2, "h_swish"), (1, "h_swish"), (2, "h_swish"))
PROXYLESS = tuple((stride, "relu6") for stride in (2, 2, 2, 1, 2, 1))


def h_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(x + 3, 0, 6) / 6


ACT = {"relu": lambda x: x.clamp(min=0), "relu6": lambda x: x.clamp(0, 6), "h_swish": lambda x: x * h_sigmoid(x)}


def random_state(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """Random float64 tensors under official names: norms and statistics too, variances positive."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        drawn = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
        if name.endswith("num_batches_tracked"):
            drawn = torch.tensor(7)
        elif name.endswith(("running_var", "bn.weight")):
            drawn = 0.5 + torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
        elif name.endswith("_matrix"):
            drawn = torch.eye(shape[0], dtype=torch.float64) + 0.3 * drawn / shape[0] ** 0.5
        elif len(shape) > 1:
            fan_in = drawn[0].numel()
            drawn = drawn * (2 / fan_in) ** 0.5
        else:
            drawn = 0.3 * drawn
        state[name] = drawn
    return state


def round8(value: float) -> int:
    """To a multiple of 8, losing 10 % at most."""
    nearest = max(8, int(value + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * value else nearest + 8


def kernel(state: Mapping[str, Tensor], name: str, size: int) -> Tensor:
    """Weights (C, 1, k, k) of the depthwise layer ``name``: 5x5 from the centre of 7x7, 3x3 from that of 5x5."""
    weight = state[f"{name}.conv.weight"]
    for large in (7, 5):
        if size < large:
            small = large - 2
            centre = weight[:, 0, 1:-1, 1:-1].reshape(len(weight), small * small)
            matrix = state[f"{name}.{large}to{small}_matrix"]
            rows = [matrix @ flat for flat in centre]
            weight = torch.stack(rows).reshape(-1, 1, small, small)
    return weight


def norm(state: Mapping[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    """Batch norm by its running statistics, of the first channels that ``x`` has."""
    mean, var, weight, bias = (
        state[f"{name}.{part}"][: x.shape[1], None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


def block(
    state: Mapping[str, Tensor], at: str, x: Tensor, size: int, ratio: int, stride: int, act: str, eps: float
) -> Tensor:
    """One elastic block, its residual included."""
    entered, function = x, ACT[act]
    width = round8(round(x.shape[1] * ratio))
    weight = state[f"{at}.inverted_bottleneck.conv.conv.weight"][:width, : x.shape[1]]
    x = function(norm(state, f"{at}.inverted_bottleneck.bn.bn", F.conv2d(x, weight), eps))
    weight = kernel(state, f"{at}.depth_conv.conv", size)[:width]
    x = F.conv2d(x, weight, stride=stride, padding=size // 2, groups=width)
    x = function(norm(state, f"{at}.depth_conv.bn.bn", x, eps))
    fc = f"{at}.depth_conv.se.fc"
    if f"{fc}.reduce.weight" in state:
        inside = round8(width // 4)
        y = x.mean((2, 3))
        y = y @ state[f"{fc}.reduce.weight"][:inside, :width, 0, 0].T + state[f"{fc}.reduce.bias"][:inside]
        y = y.clamp(min=0) @ state[f"{fc}.expand.weight"][:width, :inside, 0, 0].T + state[f"{fc}.expand.bias"][:width]
        x = x * h_sigmoid(y)[:, :, None, None]
    x = norm(
        state, f"{at}.point_linear.bn.bn", F.conv2d(x, state[f"{at}.point_linear.conv.conv.weight"][:, :width]), eps
    )
    return x + entered if stride == 1 and x.shape[1] == entered.shape[1] else x


def network(
    state: Mapping[str, Tensor], x: Tensor, kernels: Sequence[int], ratios: Sequence[int], depths: Sequence[int]
) -> Tensor:
    """Logits of one subnet in eval mode.

    Args:
        state: Official names, newest form.
        x: (N, 3, H, W).
        kernels, ratios: Of all blocks behind the first one, four a stage (one in the last of ProxylessNAS).
        depths: Of the five elastic stages.
    """
    mobile = "final_expand_layer.conv.weight" in state
    stages, eps = (MOBILENET, 1e-5) if mobile else (PROXYLESS, 1e-3)
    stem, first = ("h_swish", "relu") if mobile else ("relu6", "relu6")
    x = F.conv2d(x, state["first_conv.conv.weight"], stride=2, padding=1)
    x = ACT[stem](norm(state, "first_conv.bn", x, eps))
    at = "blocks.0.conv"
    y = F.conv2d(x, state[f"{at}.depth_conv.conv.weight"], padding=1, groups=x.shape[1])
    y = ACT[first](norm(state, f"{at}.depth_conv.bn", y, eps))
    y = norm(state, f"{at}.point_linear.bn", F.conv2d(y, state[f"{at}.point_linear.conv.weight"]), eps)
    x = x + y if x.shape == y.shape else y
    index = 0
    for number, (stride, act) in enumerate(stages):
        blocks, runs = (4, depths[number]) if number < 5 else (1, 1)
        for position in range(runs):
            at = f"blocks.{index + position + 1}.conv"
            step = stride if position == 0 else 1
            x = block(state, at, x, kernels[index + position], ratios[index + position], step, act, eps)
        index += blocks
    if mobile:
        x = F.conv2d(x, state["final_expand_layer.conv.weight"])
        x = ACT["h_swish"](norm(state, "final_expand_layer.bn", x, eps)).mean((2, 3))
        x = ACT["h_swish"](x @ state["feature_mix_layer.conv.weight"][:, :, 0, 0].T)
    else:
        x = F.conv2d(x, state["feature_mix_layer.conv.weight"])
        x = ACT["relu6"](norm(state, "feature_mix_layer.bn", x, eps)).mean((2, 3))
    return x @ state["classifier.linear.weight"].T + state["classifier.linear.bias"]
