"""Speed of Once-for-All: a step of four subnets beside its static parts, and the search over a predictor.

    python benchmarks/ofa.py --only step
    python benchmarks/ofa.py --only search --predictor accuracy_predictor_mbv3_w1.2.safetensors

Parts: ``step`` (one step of phase expand_2, batch 8 at 224x224, against forward and backward of the static exports of
the same four subnets and one update), ``search`` (evolution over the published predictor within a limit of macs,
against a re-implementation of the loop that its authors published, at an equal number of predictions, over several
seeds), ``cost_model`` (costs per second).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import numpy as np
import torch
from torch import nn

from benchmarks._timing import cost_rate, interleaved, machine, median_ratio
from benchmarks.autoslim import batch, build, forward_backward, training_step

PHASE = "configs/nas/mmcls/onceforall/ofa_mobilenet_expand_2_32xb64_in1k.py"
SUPERNET = "configs/nas/mmcls/onceforall/ofa_mobilenet_supernet_32xb64_in1k.py"
MMRAZOR_STEP = 2.64  # seconds: BigNAS of MMRazor 1.0.0, torch 2.0.1, same kind of CPU, 2 cores, batch 8, 224x224
AUTHORS = 74.7  # seconds: the authors' finder on 2 cores of the same kind, population 100, 500 generations
RESOLUTIONS = (160, 176, 192, 208, 224)


def step(size: int, rounds: int, draws: int, channels_last: bool) -> dict:
    """One step of four subnets against the sum of their static parts, for several draws; labels only, no teacher."""
    algorithm = build(channels_last, PHASE)
    algorithm.kd_ratio, algorithm._has_start, algorithm._is_sorted = 0.0, True, True
    images, labels = batch(size, channels_last)
    ours = training_step(algorithm)
    full = algorithm.mutator.resolutions[-1]
    ratios, seconds = [], []
    for number in range(draws):
        rng = np.random.default_rng(number)
        subnets = [algorithm.phase.sample(rng, full) for _ in range(4)]
        chosen = [type(algorithm.passes(0)[0])(subnet, name=f"random{k}_subnet") for k, subnet in enumerate(subnets)]
        statics = nn.ModuleList(algorithm.mutator.export(subnet).train() for subnet in subnets)
        update = torch.optim.SGD(statics.parameters(), 1e-3, momentum=0.9, nesterov=True)

        def plain(statics: nn.ModuleList = statics, update: torch.optim.Optimizer = update) -> None:
            for static in statics:
                forward_backward(static, images, labels)
            update.step()
            update.zero_grad(set_to_none=True)

        algorithm.passes = lambda _, chosen=chosen: chosen
        times = interleaved({"ofa": lambda: ours(images, labels), "static": plain}, max(rounds // draws, 4))
        del algorithm.passes
        ratios.append(median_ratio(times["ofa"], times["static"]))
        seconds.append(statistics.median(times["ofa"]))
    ratio, median = statistics.median(ratios), statistics.median(seconds)
    print(
        f"OFA step of 4 subnets / its static parts, batch {size}: {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f} "
        f"over {draws} draws); {median:.2f} s a step (MMRazor 1.0.0, BigNAS: {MMRAZOR_STEP} s on a CPU of this kind)",
        flush=True,
    )
    return {"batch": size, "ratio": ratio, "ratios": ratios, "s": median}


def cost_model() -> dict:
    """Costs per second on one core."""
    torch.set_num_threads(1)
    algorithm = build(False, SUPERNET)
    rows = algorithm.search_space.sample_indices(np.random.default_rng(0), 100_000)
    rate = cost_rate(algorithm.cost_model, rows)
    print(f"cost model: {rate:,.0f} subnets/s", flush=True)
    return {"costs_per_second": round(rate)}


def search(predictor_file: str, seeds: int, limit: float, generations: int) -> dict:
    """Best predicted accuracy within ``limit`` macs, and seconds, of ours and of the published loop."""
    from mmrazor_lite.models.backbones import OFAMobileNetV3
    from mmrazor_lite.models.mutators import NasMutator
    from mmrazor_lite.search import AccuracyPredictor, EvolutionSearcher

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = OFAMobileNetV3(width_mult=1.2)
            self.fc = nn.Linear(self.backbone.out_channels, 1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.backbone(x)[-1])

    mutator = NasMutator(resolutions=RESOLUTIONS)
    mutator.prepare(Net())
    space, cost = mutator.search_space, mutator.cost_model
    predictor = AccuracyPredictor.read(predictor_file, space)
    published, macs_of = PublishedLoop(predictor_file), macs_table(cost)
    figures: dict[str, list[float]] = {"ours": [], "ours_s": [], "published": [], "published_s": []}
    for seed in range(seeds):
        start = time.perf_counter()
        searcher = EvolutionSearcher(
            space, cost, [("macs", 0, limit)], seed, generations, num_candidates=100, top_k=25, num_mutation=50,
            num_crossover=50, fill="mutation",
        )  # fmt: skip
        while not searcher.done:
            rows = searcher.ask()
            searcher.tell(rows, [{"score": score} for score in predictor(rows).tolist()])
        figures["ours_s"].append(time.perf_counter() - start)
        figures["ours"].append(searcher.results()[0].metrics["score"])
        start = time.perf_counter()
        net, accuracy = published.run(macs_of, limit, seed, generations)
        figures["published_s"].append(time.perf_counter() - start)
        figures["published"].append(accuracy)
        assert abs(float(predictor(row_of(net, space))[0]) - accuracy) < 1e-5
        assert cost(row_of(net, space))["macs"][0] == macs_of(net) <= limit
        print(f"  seed {seed}: { ({key: round(values[-1], 5) for key, values in figures.items()}) }", flush=True)
    mean = {key: statistics.mean(values) for key, values in figures.items()}
    spread = {key: statistics.stdev(figures[key]) if seeds > 1 else 0.0 for key in ("ours", "published")}
    print(
        f"predicted top-1 within {limit / 1e6:g}M macs, {generations} generations of 100, {seeds} seeds: "
        f"ours {100 * mean['ours']:.3f} +- {100 * spread['ours']:.3f} in {mean['ours_s']:.2f} s, the published loop "
        f"{100 * mean['published']:.3f} +- {100 * spread['published']:.3f} in {mean['published_s']:.1f} s "
        f"(the authors' own code: {AUTHORS} s)",
        flush=True,
    )
    return figures


def row_of(net: dict, space: Any) -> np.ndarray:
    """The row (1, D) of a net in the published form."""
    subnet = {"resolution": net["r"]}
    for stage in range(5):
        subnet[f"backbone.layers.{stage + 1}.depth"] = net["d"][stage]
        for block in range(4):
            name = f"backbone.layers.{stage + 1}.{block}"
            subnet[f"{name}.kernel_size"] = net["ks"][4 * stage + block]
            subnet[f"{name}.expand_ratio"] = net["e"][4 * stage + block]
    return space.index(subnet)[None]


def macs_table(cost: Any) -> Callable[[dict], int]:
    """Macs of one net in the published form by look-ups in plain Python, as its authors do it for latencies."""
    tables = {cell.name: cell.values[..., 0].tolist() for cell in cost.cells.cells}

    def macs(net: dict) -> int:
        size = RESOLUTIONS.index(net["r"])
        total = tables[""][size]
        for slot in range(20):
            stage, block = divmod(slot, 4)
            if block < net["d"][stage]:
                table = tables[f"backbone.layers.{stage + 1}.{block}"][size]
                table = table[-1] if block > 1 else table  # at the largest depth, where it runs
                total += table[(3, 5, 7).index(net["ks"][slot])][(3, 4, 6).index(net["e"][slot])]
        return total

    return macs


class PublishedLoop:
    """The evolution of Once-for-All's tutorial, one net at a time as there: lists in dicts, torch for the predictor.

    Population 100, a quarter of it parents, half of the children mutants: each resolution, block (kernel and ratio) and
    depth anew with probability 0.1; the others take every list element from one of two parents; whatever is over the
    limit is drawn again. (ofa/tutorial/evolution_finder.py; the settings are in the reference.)
    """

    def __init__(self, predictor_file: str) -> None:
        from safetensors.torch import load_file

        tensors = load_file(predictor_file)
        layers: list[nn.Module] = []
        for number in range(4):
            weight = tensors[f"layers.{number}.weight"]
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.load_state_dict({"weight": weight, "bias": tensors[f"layers.{number}.bias"]})
            layers += [linear, nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1]).eval()

    @torch.no_grad()
    def accuracy(self, nets: list[dict]) -> list[float]:
        encoded = torch.zeros(len(nets), 128)
        for line, net in zip(encoded, nets, strict=True):
            for slot in range(20):
                if slot % 4 < net["d"][slot // 4]:
                    line[3 * slot + (3, 5, 7).index(net["ks"][slot])] = 1
                    line[60 + 3 * slot + (3, 4, 6).index(net["e"][slot])] = 1
            line[120 + (net["r"] - 112) // 16] = 1
        return self.network(encoded)[:, 0].tolist()

    def run(self, cost: Any, limit: float, seed: int, generations: int) -> tuple[dict, float]:
        rng = np.random.default_rng(seed)

        def pick(values: tuple) -> int:
            return values[rng.integers(len(values))]

        def within(make: Any) -> dict:
            while cost(net := make()) > limit:
                pass
            return net

        def drawn() -> dict:
            return {
                "ks": [pick((3, 5, 7)) for _ in range(20)], "e": [pick((3, 4, 6)) for _ in range(20)],
                "d": [pick((2, 3, 4)) for _ in range(5)], "r": pick(RESOLUTIONS),
            }  # fmt: skip

        def mutant(parent: dict) -> dict:
            net = {key: list(value) if isinstance(value, list) else value for key, value in parent.items()}
            if rng.random() < 0.1:
                net["r"] = pick(RESOLUTIONS)
            for slot in range(20):
                if rng.random() < 0.1:
                    net["ks"][slot], net["e"][slot] = pick((3, 5, 7)), pick((3, 4, 6))
            net["d"] = [pick((2, 3, 4)) if rng.random() < 0.1 else depth for depth in net["d"]]
            return net

        def child(a: dict, b: dict) -> dict:
            mixed = {key: [pick(pair) for pair in zip(a[key], b[key], strict=True)] for key in ("ks", "e", "d")}
            return {**mixed, "r": pick((a["r"], b["r"]))}

        population = [within(drawn) for _ in range(100)]
        scored = sorted(zip(self.accuracy(population), population, strict=True), key=lambda pair: -pair[0])
        for _ in range(generations - 1):
            parents = scored[:25]
            children = [within(lambda: mutant(parents[rng.integers(25)][1])) for _ in range(50)]
            children += [
                within(lambda: child(parents[rng.integers(25)][1], parents[rng.integers(25)][1])) for _ in range(50)
            ]
            told = list(zip(self.accuracy(children), children, strict=True))
            scored = sorted([*parents, *told], key=lambda pair: -pair[0])
        return scored[0][1], scored[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["step", "cost_model", "search"])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--predictor", help="the published predictor of width 1.2, as safetensors; for the search")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--generations", type=int, default=500)
    parser.add_argument("--limit", type=float, default=400, help="millions of macs, for the search")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    print(machine())
    parts = {
        "step": lambda: step(args.batch, args.rounds, args.draws, args.channels_last),
        "cost_model": cost_model,
        "search": lambda: search(args.predictor, args.seeds, args.limit * 1e6, args.generations),
    }
    names = [args.only] if args.only else [name for name in parts if name != "search" or args.predictor]
    if "search" in names and not args.predictor:
        parser.error("--only search needs --predictor")
    figures = {"machine": machine(), **{name: parts[name]() for name in names}}
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
