"""A supernet small enough to search within seconds, on real images. Also a script: one process of a search.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... python tiny.py WORK_DIR [--resume] [--kill-at STEP] [--evolution]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, DefaultScope

sys.path.insert(0, str(Path(__file__).parents[3]))

from mmrazor_lite.config.build import register_quietly
from mmrazor_lite.registry import MODELS

register_quietly()
DefaultScope.get_instance("mmrazor_lite_tests", scope_name="mmpretrain")


@METRICS.register_module(force=True)
class MeanTrueScore(BaseMetric):
    """Mean probability of the true class: unlike accuracy, never the same for two subnets."""

    default_prefix = "mean"

    def process(self, data_batch, data_samples) -> None:
        self.results += [float(s["pred_score"][s["gt_label"]]) for s in data_samples]

    def compute_metrics(self, results) -> dict:
        return {"true": 100 * sum(results) / len(results), "images": len(results)}


def build_algorithm(candidates=(0.25, 0.5, 1.0), dropout: float = 0.0):
    """Return an AutoSlim supernet of five choices with seeded weights and running statistics."""
    torch.manual_seed(0)
    backbone = {"type": "mmrazor_lite.InvertedResidualNet", "settings": [[1, 8, 1, 1], [2, 16, 2, 2]]}
    algorithm = MODELS.build(
        {
            "type": "mmrazor_lite.AutoSlim",
            "architecture": {
                "type": "ImageClassifier",
                "backbone": {**backbone, "stem_channels": 8, "last_channels": 32},
                "neck": {"type": "GlobalAveragePooling"},
                "head": {"type": "LinearClsHead", "num_classes": 10, "in_channels": 32},
            },
            "mutator": {"type": "OneShotChannelMutator", "candidate_choices": list(candidates), "divisor": 1},
            "input_shape": (3, 8, 8),
            "data_preprocessor": {"num_classes": 10, "mean": [120.0] * 3, "std": [60.0] * 3},
        }
    )
    for parameter in algorithm.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    if dropout:
        algorithm.architecture.neck = torch.nn.Sequential(algorithm.architecture.neck, _TupleDropout(dropout))
    return algorithm


class _TupleDropout(torch.nn.Dropout):
    def forward(self, x):
        return tuple(super(_TupleDropout, self).forward(item) for item in x)


def loader(split: str, images: int = 200, **options) -> dict:
    """Return a data loader config of digits."""
    pipeline = [{"type": "RandomFlip", "prob": 0.5}, {"type": "PackInputs"}] if split == "train" else None
    dataset = {"type": "mmrazor_lite.Digits", "split": split, "pipeline": pipeline or [{"type": "PackInputs"}]}
    return {"dataset": {**dataset, "indices": images}, "batch_size": 64, "num_workers": 0, **options}


def search_cfg(**changes) -> dict:
    """Return the config of a search to two budgets."""
    return {
        "type": "SearchLoop",
        "target_macs": ["60%", "35%"],
        "dataloader": loader("test", 100),
        "evaluator": {"type": "MeanTrueScore"},
        "score_key": "mean/true",
        "calibrate_dataloader": loader("train"),
        "calibrate_sample_num": 64,
        **changes,
    }


def evolution_cfg(**changes) -> dict:
    """Return the config of an evolution within a range, under MMRazor's name."""
    return {
        **{key: value for key, value in search_cfg().items() if key != "target_macs"},
        "type": "EvolutionSearchLoop",
        "constraints_range": {"macs": ("20%", "60%"), "params": (0, None)},
        **{"max_epochs": 4, "num_candidates": 6, "top_k": 3, "num_mutation": 2, "num_crossover": 2},
        **changes,
    }


def _check_local_calibration() -> None:
    """Recalibrate on one process alone; a norm that waits for the other one would hang."""
    from mmrazor_lite.models.calibration import recalibrate

    class Norm(torch.nn.SyncBatchNorm):
        def forward(self, x):
            assert torch.distributed.get_world_size(self.process_group) == 1
            return torch.nn.BatchNorm2d.forward(self, x)

        def _check_input_dim(self, x):
            pass

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = Norm(3)

        def forward(self, inputs, mode):
            return self.norm(inputs)

    net = Net()
    recalibrate(net, [{"inputs": torch.randn(4, 3, 2, 2)}])
    assert net.norm.process_group is None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work_dir")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--kill-after", type=int, help="end as SIGKILL does while the next subnet is scored")
    parser.add_argument("--evolution", action="store_true")
    args = parser.parse_args()
    from mmrazor_lite.engine.search_build import build_search_loop
    from mmrazor_lite.engine.search_state import SearchState

    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
        if os.environ["RANK"] == "0":
            _check_local_calibration()
    save = SearchState.save

    def save_or_die(state):
        if len(state.steps) == args.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        save(state)

    SearchState.save = save_or_die
    config = evolution_cfg() if args.evolution else search_cfg()
    loop = build_search_loop(config, algorithm=build_algorithm(), work_dir=args.work_dir, config="tiny.py")
    scored = []
    evaluate = loop.evaluator.evaluate

    def scoring(subnet):
        if len(scored) == args.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        scored.append(subnet)
        return evaluate(subnet)

    loop.evaluator.evaluate = scoring
    loop.run(resume=args.resume)
    print(f"scored here: {len(scored)}")


if __name__ == "__main__":
    main()
