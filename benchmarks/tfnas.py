"""Speed of TF-NAS: its two kinds of steps beside static networks, and costs per second.

    python benchmarks/tfnas.py --table W/latency.json                      # the CIFAR-10 supernet
    python benchmarks/tfnas.py --table latency_gpu.npz --batch 8 \\
      --config configs/nas/tfnas/tfnas_search_1xb32_in1k100.py               # the published one

A weight step is set against its two paths as static networks, run one after the other with one update; an architecture
step against a static network that runs all operators at their widths; and costs are counted per second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import numpy as np
import torch
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional

from benchmarks._timing import cost_rate, interleaved, machine, median_ratio
from benchmarks.autoslim import _Pass, forward_backward

SEARCH = "configs/nas/tfnas/tfnas_search_cifar10.py"


def build(config: str, table: str) -> nn.Module:
    """The supernet with both optimizers, past its epochs without architecture."""
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config

    algorithm = build_model(load_config(ROOT / config, [f"model.latency_table={table}", "model.target_latency=50%"]))
    algorithm.data_preprocessor = _Pass()
    algorithm.start_epoch(algorithm.epochs_without_arch)
    return algorithm.train()


class AllOperators(nn.Module):
    """The supernet as a static network: plain operators at the widths of now, all of them run and are mixed.

    Its parameters are the logits of both mixtures; the weights of the operators stay, as in an architecture step.
    """

    def __init__(self, algorithm: nn.Module) -> None:
        from mmrazor_lite.models.algorithms.tfnas_parts import blocks_of

        super().__init__()
        mutator, space = algorithm.mutator, algorithm.search_space
        self.net = mutator.export(space.max()).requires_grad_(False)
        self.alphas, self.betas = nn.ParameterList(), nn.ParameterList()
        blocks: dict[str, list[nn.ModuleList]] = {}
        for block, widths in zip(blocks_of(mutator), algorithm.widths.tolist(), strict=True):
            operators = []
            for index, width in enumerate(widths):
                subnet = {**space.max(), **block.choices(index, width)}
                operators.append(mutator.part(block.name, subnet).requires_grad_(False))
            blocks.setdefault(block.stage.name, []).append(nn.ModuleList(operators))
            self.alphas.append(torch.zeros(len(operators)))
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in blocks.values())
        for stage in self.stages:
            self.betas.append(torch.zeros(len(stage)))
        self.train()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, classes)."""
        backbone, alphas = self.net.backbone, iter(self.alphas)
        x = backbone.second_stem(backbone.first_stem(x))
        for stage, beta in zip(self.stages, self.betas, strict=True):
            outputs = []
            for operators in stage:
                weights = next(alphas).softmax(0)
                x = sum(weight * operator(x) for weight, operator in zip(weights, operators, strict=True))
                outputs.append(x)
            x = sum(weight * output for weight, output in zip(beta.softmax(0), outputs, strict=True))
        return self.net.head.fc(backbone.dropout(backbone.pool(backbone.last_conv(x)).flatten(1)))


def steps(algorithm: nn.Module, size: int, rounds: int) -> list[dict[str, Any]]:
    """Ratios of both kinds of steps."""
    from mmrazor_lite.engine.optim import SubnetOptimWrapper
    from mmrazor_lite.engine.separate_optim import SeparateOptimWrappers

    generator = torch.Generator().manual_seed(0)
    images = torch.randn((size, *algorithm.input_shape), generator=generator)
    labels = torch.randint(algorithm.architecture.head.num_classes, (size,), generator=generator)
    data = {"inputs": images, "data_samples": [DataSample().set_gt_label(label) for label in labels]}
    sgd = torch.optim.SGD(algorithm.architecture.parameters(), 1e-3, momentum=0.9)
    adam = torch.optim.Adam(algorithm.arch_parameters.parameters(), 1e-3)
    optim = SeparateOptimWrappers(architecture=SubnetOptimWrapper(sgd), arch_parameters=SubnetOptimWrapper(adam))

    chosen = algorithm.passes(0)
    algorithm.passes = lambda _: chosen
    statics = nn.ModuleList(algorithm.mutator.export(item.subnet).train() for item in chosen)
    update = torch.optim.SGD(statics.parameters(), 1e-3, momentum=0.9)

    def two_paths() -> None:
        for static in statics:
            forward_backward(static_logits(static), images, labels)
        update.step()
        update.zero_grad(set_to_none=True)

    everything = AllOperators(algorithm)
    mixing = torch.optim.Adam(everything.parameters(), 1e-3)

    def all_operators() -> None:
        functional.cross_entropy(everything(images), labels).backward()
        mixing.step()
        mixing.zero_grad(set_to_none=True)

    found = []
    for name, ours, theirs in (
        (
            "weight step / its two paths",
            lambda: algorithm.train_step({"weights": data, "arch": None}, optim),
            two_paths,
        ),
        (
            "architecture step / all operators",
            lambda: algorithm._arch_step(data, optim["arch_parameters"], algorithm, 0),
            all_operators,
        ),
    ):
        times = interleaved({"ours": ours, "static": theirs}, rounds, warmup=1)
        row = {"what": name, "batch": size, "ratio": median_ratio(times["ours"], times["static"])}
        row["s"] = statistics.median(times["ours"])
        print(f"{name}, batch {size}: {row['ratio']:.3f}; {row['s']:.3f} s", flush=True)
        found.append(row)
    return found


def static_logits(static: nn.Module) -> Any:
    """Of a classifier, the function from images to logits."""
    return lambda images: static(images, mode="tensor")


def cost_model(algorithm: nn.Module) -> dict[str, Any]:
    """Costs per second on one core, latency included."""
    rows = algorithm.search_space.sample_indices(np.random.default_rng(0), 50_000)
    rate = cost_rate(algorithm.cost_model, rows)
    print(f"cost model with latency: {rate:,.0f} subnets/s", flush=True)
    return {"costs_per_second": round(rate)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=SEARCH)
    parser.add_argument("--table", required=True, help="latency table of the config's space")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()

    print(machine(), flush=True)
    algorithm = build(args.config, args.table)
    result = {"machine": machine(), "steps": steps(algorithm, args.batch, args.rounds), **cost_model(algorithm)}
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
