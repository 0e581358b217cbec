"""One process of the DDP tests: three float64 steps per scenario, gradients and weights saved by rank 0.

    python ddp_worker.py RANK WORLD_SIZE RENDEZVOUS_FILE OUTPUT [sync_bn]

With ``sync_bn`` every process takes a GPU and trains with synchronised batch norms in train mode.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import nn

from mmrazor_lite.cli.environment import leave_process_group
from mmrazor_lite.engine.channels_last import settle
from mmrazor_lite.engine.ddp import SubnetDDP
from mmrazor_lite.engine.layout_trial import tried
from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.models.algorithms import AutoSlim, Pass
from mmrazor_lite.subnet import SearchSpace, write_subnet

BATCH, STEPS = 8, 3


class TwoPaths(nn.Module):
    """A classifier with an alternative path that ordinary steps leave unused."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), norm(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, bias=False), norm(12), nn.ReLU())
        self.other = nn.Sequential(nn.Conv2d(8, 12, 3, bias=False), norm(12), nn.ReLU())
        self.head = nn.Linear(12, 5)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        logits = self.head(self.body(self.stem(inputs)).mean(dim=(2, 3)))
        return {"loss": F.cross_entropy(logits, data_samples)} if mode == "loss" else logits


class SinglePath(AutoSlim):
    """Trains one random subnet per step."""

    def passes(self, step: int) -> list[Pass]:
        return [Pass(self.search_space.sample(self.rng(step, 0)), name="random0_subnet")]


class OneSided(AutoSlim):
    """Is slow as (N, C, H, W) in the first process, and a little slow with the channels innermost in the others."""

    rank = 0

    def trial_step(self, batch, optim_wrapper):
        time.sleep((0.02 if self.channels_last else 0.0) if self.rank else (0.0 if self.channels_last else 0.4))
        return super().trial_step(batch, optim_wrapper)


def build(kind: type[AutoSlim] = AutoSlim, norm: type[nn.Module] = nn.BatchNorm2d, **options) -> AutoSlim:
    torch.manual_seed(0)
    mutator = {"type": "OneShotChannelMutator", "candidate_choices": [0.25, 0.5, 0.75, 1.0], "divisor": 1}
    options = {"input_shape": (3, 8, 8), "data_preprocessor": BaseDataPreprocessor(), **options}
    algorithm = kind(TwoPaths(norm), mutator, **options)
    for module in algorithm.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    algorithm.double().train()
    for module in algorithm.modules():
        if isinstance(module, nn.BatchNorm2d) and norm is nn.BatchNorm2d:
            module.eval()  # statistics of a part of the batch are others than those of all of it
    return algorithm


def joint(space: SearchSpace, folder: str) -> AutoSlim:
    """Norms of one subnet are used in one pass only, of the first subnet in a pass that does not reduce."""
    rng = np.random.default_rng(1)
    paths = [str(Path(folder) / f"{name}.yaml") for name in "AB"]
    for path in paths:
        write_subnet(path, space.sample(rng), space)
    return build(channel_cfg=paths)


def train(algorithm: AutoSlim, rank: int, world_size: int, accumulative_counts: int = 1) -> dict:
    optimizer = torch.optim.SGD(algorithm.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    optim_wrapper = SubnetOptimWrapper(optimizer, accumulative_counts, clip_grad={"max_norm": 0.5})

    def wrap(config, module):
        return SubnetDDP(module, device_ids=[rank]) if world_size > 1 else module

    model, order = wrap(None, algorithm), None
    names = {id(parameter): name for name, parameter in algorithm.named_parameters()}
    gradients: list[dict] = []

    def record(optimizer, args, kwargs) -> None:
        parameters = optimizer.param_groups[0]["params"]
        gradients.append({names[id(p)]: None if p.grad is None else p.grad.clone() for p in parameters})

    optimizer.register_step_pre_hook(record)
    generator = torch.Generator().manual_seed(0)
    share = BATCH // world_size
    for _ in range(STEPS):
        device = next(algorithm.parameters()).device
        images = torch.randn((BATCH, 3, 8, 8), generator=generator, dtype=torch.float64).to(device)
        labels = torch.randint(5, (BATCH,), generator=generator).to(device)
        mine = slice(rank * share, (rank + 1) * share)
        batch = {"inputs": images[mine], "data_samples": labels[mine]}
        if isinstance(algorithm, OneSided) and order is None:
            algorithm.rank, order = rank, tried(algorithm, batch, optim_wrapper).channels_last
            run = SimpleNamespace(algorithm=algorithm, model=model, wrap_model=wrap, cfg={})
            settle(run, order)
            assert world_size == 1 or run.model is not model
            model = run.model
        model.train_step(batch, optim_wrapper)
    return {"gradients": gradients, "weights": algorithm.state_dict(), "channels_last": order}


def run(rank: int, world_size: int, sync_bn: bool = False) -> dict:
    if sync_bn:
        return {"sync_bn": train(build(norm=nn.SyncBatchNorm).to(f"cuda:{rank}"), rank, world_size)}
    sandwich = build()
    with tempfile.TemporaryDirectory() as folder:
        subnets = joint(sandwich.search_space, folder)
    return {
        "sandwich": train(sandwich, rank, world_size),
        "accumulated": train(build(), rank, world_size, accumulative_counts=3),
        "single_path": train(build(SinglePath), rank, world_size),
        "joint": train(subnets, rank, world_size),
        "tried": train(build(OneSided), rank, world_size),
    }


def main(rank: int, world_size: int, rendezvous: str, output: str, sync_bn: bool) -> None:
    torch.set_num_threads(1)
    if sync_bn:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if sync_bn else "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    results = run(rank, world_size, sync_bn)
    if rank == 0:
        torch.save(results, output)
    leave_process_group(failed=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], "sync_bn" in sys.argv[5:])
