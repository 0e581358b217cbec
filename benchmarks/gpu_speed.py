"""The GPU benchmark's speed: steps of supernets beside the static networks in them."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.gpu_figures import Figures, Goal
from benchmarks.gpu_steps import (
    CIFAR,
    DEVICE,
    Pass,
    Setting,
    batch_of,
    built,
    compared,
    forward_backward,
    freed,
    laid_out,
    same_passes,
    samples,
    settings,
    static_step,
    training_step,
    wrapped,
)
from mmrazor_lite.search import Cost

CONFIGS = {
    "autoslim": ("configs/pruning/autoslim/autoslim_mbv2_supernet_8xb256_in1k.py", "autoslim_supernet_digits.py"),
    "spos": ("configs/nas/spos/spos_supernet_shufflenetv2_8xb128_in1k.py", "spos_supernet_digits.py"),
    "ofa": ("configs/nas/mmcls/onceforall/ofa_mobilenet_expand_2_32xb64_in1k.py", "ofa_expand_2_digits.py"),
    "tfnas": ("configs/nas/tfnas/tfnas_search_1xb32_in1k100.py", "tfnas_search_digits.py"),
}
# Of times, ours / the static network's: 0.9 and 0.85 of its images/s; the sandwich beside a plain step has four
# networks, which have 1.85 times the macs of the full one where MobileNetV2 is 1.5 times as wide.
AS_FAST, SANDWICH, PLAIN, TFNAS = Goal("<=", 1 / 0.9), Goal("<=", 1 / 0.85), Goal("<=", 2.0), Goal("<=", 1.15)


def config(name: str, tiny: bool) -> str:
    """The config of a supernet, for ImageNet, or of digits for a dry run."""
    published, digits = CONFIGS[name]
    return str(Path(published).with_name(digits)) if tiny else published


def macs_of(cost: Cost, passes: list) -> float:
    """Macs of the networks of a step, in those of the largest of them."""
    macs = [cost.of(item.subnet)["macs"] for item in passes]
    return round(sum(macs) / max(macs), 3)


def autoslim(figures: Figures, tiny: bool, folder: Path) -> None:
    """AutoSlim on MobileNetV2 1.5x: the sandwich beside its parts and beside a plain step; subnets beside exports."""
    algorithm = built(config("autoslim", tiny))
    passes, space = algorithm.passes(0), algorithm.search_space
    figures.add("macs of the sandwich / of the full network", macs_of(algorithm.cost_model, passes), "x")
    for setting in settings(tiny):
        laid_out(algorithm, setting.channels_last)
        images, labels = batch_of(algorithm, setting)
        parts = [laid_out(algorithm.mutator.export(item.subnet).train(), setting.channels_last) for item in passes]
        full = laid_out(algorithm.mutator.export(space.max()).train(), setting.channels_last)
        with same_passes(algorithm, passes):
            steps = {
                "sandwich": training_step(algorithm, images, labels, setting),
                "static parts": static_step(parts, images, labels, setting, updated=parts[0]),
                "plain step": static_step([full], images, labels, setting),
            }
            goals = {"static parts": SANDWICH, "plain step": PLAIN}
            compared(figures, "sandwich", steps, setting, 0.1 if tiny else 2.0, goals)
        subnets = {"min": space.min(), "random": space.sample(np.random.default_rng(0)), "max": space.max()}
        for name, subnet in subnets.items():
            static = laid_out(algorithm.mutator.export(subnet).train(), setting.channels_last)
            algorithm.mutator.activate(subnet)
            sides = {
                "activated": static_step([algorithm.architecture], images, labels, setting),
                "static": static_step([static], images, labels, setting),
            }
            compared(figures, "activated", sides, setting, 0.1 if tiny else 0.6, {"static": AS_FAST}, subnet=name)


def spos(figures: Figures, tiny: bool, folder: Path) -> None:
    """SPOS on ShuffleNetV2: a step beside the static network of the same path, for two paths."""
    algorithm = built(config("spos", tiny))
    for setting in settings(tiny):
        laid_out(algorithm, setting.channels_last)
        images, labels = batch_of(algorithm, setting)
        for number in range(1 if tiny else 2):
            passes = algorithm.passes(number)
            static = laid_out(algorithm.mutator.export(passes[0].subnet).train(), setting.channels_last)
            with same_passes(algorithm, passes):
                steps = {
                    "step": training_step(algorithm, images, labels, setting),
                    "static path": static_step([static], images, labels, setting),
                }
                goals = {"static path": AS_FAST}
                compared(figures, "SPOS step", steps, setting, 0.1 if tiny else 0.6, goals, path=number)


def ofa(figures: Figures, tiny: bool, folder: Path) -> None:
    """Once-for-All's last phase: a step of four subnets beside its static parts; labels only, no teacher."""
    algorithm = built(config("ofa", tiny))
    algorithm.kd_ratio, algorithm._has_start, algorithm._is_sorted = 0.0, True, True
    full = algorithm.mutator.resolutions[-1]
    kind = type(algorithm.passes(0)[0])
    for setting in settings(tiny):
        laid_out(algorithm, setting.channels_last)
        images, labels = batch_of(algorithm, setting)
        rng = np.random.default_rng(0)
        passes = [kind(algorithm.phase.sample(rng, full), name=f"random{k}_subnet") for k in range(4)]
        parts = [laid_out(algorithm.mutator.export(item.subnet).train(), setting.channels_last) for item in passes]
        with same_passes(algorithm, passes):
            steps = {
                "step": training_step(algorithm, images, labels, setting),
                "static parts": static_step(parts, images, labels, setting),
            }
            compared(figures, "OFA step", steps, setting, 0.1 if tiny else 1.2, {"static parts": SANDWICH})


def tfnas(figures: Figures, tiny: bool, folder: Path) -> None:
    """TF-NAS: a weight step beside its two paths, an architecture step beside a network that runs all operators."""
    from benchmarks.tfnas import AllOperators

    algorithm = tfnas_supernet(tiny)
    passes = algorithm.passes(0)
    for setting in settings(tiny):
        laid_out(algorithm, setting.channels_last)
        images, labels = batch_of(algorithm, setting)
        steps = tfnas_steps(algorithm, images, labels, setting)
        paths = [laid_out(algorithm.mutator.export(item.subnet).train(), setting.channels_last) for item in passes]
        with same_passes(algorithm, passes):
            sides = {"weights": steps["weights"], "two paths": static_step(paths, images, labels, setting)}
            compared(figures, "weight step", sides, setting, 0.1 if tiny else 1.0, {"two paths": TFNAS})
        everything = laid_out(AllOperators(algorithm).to(DEVICE), setting.channels_last)
        mixing = torch.optim.Adam(everything.parameters(), 1e-3)

        def all_operators(everything=everything, mixing=mixing, data=(images, labels, setting)) -> None:
            forward_backward(everything, *data)
            mixing.step()
            mixing.zero_grad(set_to_none=True)

        sides = {"architecture": steps["architecture"], "all operators": all_operators}
        compared(figures, "architecture step", sides, setting, 0.1 if tiny else 1.0, {"all operators": TFNAS})


def tfnas_supernet(tiny: bool) -> nn.Module:
    """TF-NAS's supernet in an epoch with architecture, and a latency table by a formula: steps only look things up."""
    from mmrazor_lite.estimators.cells import Cell
    from mmrazor_lite.estimators.latency_table import LatencyTable
    from mmrazor_lite.models.algorithms.tfnas_parts import BlockLatency, blocks_of

    algorithm = built(config("tfnas", tiny))
    space, blocks = algorithm.search_space, blocks_of(algorithm.mutator)
    cells = []
    for block in blocks:
        values = np.full((len(block.widths), max(map(len, block.offered))), np.nan)
        for operator, offered in enumerate(block.offered):
            values[operator, : len(offered)] = 0.01 * np.array(offered) + 0.05 * operator
        cells.append(Cell(block.name, (block.name, block.widths), values[..., None]))
    table = LatencyTable(space, Cell("", (), np.array([1.0])), cells)
    algorithm.latency = BlockLatency(table, blocks)
    algorithm.target = table.extreme(largest=True) / 2
    algorithm.start_epoch(algorithm.epochs_without_arch)
    return algorithm


def tfnas_steps(algorithm: nn.Module, images: torch.Tensor, labels: torch.Tensor, setting: Setting) -> dict:
    """Its steps: of the weights, and of the architecture alone."""
    from mmrazor_lite.engine.separate_optim import SeparateOptimWrappers

    arch = wrapped(algorithm.arch_parameters.parameters(), setting)
    arch.optimizer = torch.optim.Adam(algorithm.arch_parameters.parameters(), 1e-3)
    optim = SeparateOptimWrappers(
        architecture=wrapped(algorithm.architecture.parameters(), setting), arch_parameters=arch
    )
    data = samples(images, labels)
    algorithm.data_preprocessor = Pass()
    return {
        "weights": lambda: algorithm.train_step({"weights": data, "arch": None}, optim),
        "architecture": lambda: algorithm._arch_step(data, optim["arch_parameters"], algorithm, 0),
    }


def compiled(figures: Figures, tiny: bool, folder: Path) -> None:
    """Static networks that are compiled: the peer that a supernet cannot be, and what a retraining can use."""
    networks = {} if tiny else {"ResNet-56": CIFAR.format("supernet")}
    networks["MobileNetV2"] = config("autoslim", tiny)
    for name, path in networks.items():
        algorithm = built(path)
        setting = Setting(2 if tiny else 256, True, True)
        laid_out(algorithm, True)
        images, labels = batch_of(algorithm, setting)
        full = algorithm.search_space.max()
        plain, fast = (laid_out(algorithm.mutator.export(full).train(), True) for _ in range(2))
        fast.backbone.compile(backend="aot_eager" if tiny else "inductor")  # a dry run needs no C++ compiler
        algorithm.mutator.activate(full)
        step = static_step([fast], images, labels, setting)
        step()
        sides = {
            "activated": static_step([algorithm.architecture], images, labels, setting),
            "compiled static": step,
            "static": static_step([plain], images, labels, setting),
        }
        found = compared(figures, "activated", sides, setting, 0.1 if tiny else 3.0, network=name)
        if found:
            ratio = statistics.median(found["static"]) / statistics.median(found["compiled static"])
            figures.add("static / compiled static", round(ratio, 3), "x", network=name)
        del algorithm, plain, fast, step, sides
        freed()
