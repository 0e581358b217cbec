"""The GPU benchmark's processes: a process group of one, and two GPUs that do what one does with the joined batch.

As a script, it is one of these processes:

    python benchmarks/gpu_processes.py RANK WORLD_SIZE BACKEND SYNC_BN MEETING_FILE OUTPUT
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_figures import Figures

BATCH, STEPS = 16, 3
CLOSE = 1e-9  # of the largest value; in float64 only the order of sums differs
WAIT = 50.0  # seconds for two processes
CUDA = torch.cuda.is_available()


class Net(nn.Module):
    """A classifier with a path that no step uses."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, bias=False), norm(16), nn.ReLU()),
            *(nn.Conv2d(16, 24, 3, bias=False), norm(24), nn.ReLU()),
        )
        self.unused = nn.Conv2d(16, 24, 3)
        self.head = nn.Linear(24, 10)

    def forward(self, inputs: Tensor, data_samples: Tensor | None = None, mode: str = "tensor") -> Tensor | dict:
        """As mmengine's models: logits, or the loss of the labels."""
        logits = self.head(self.body(inputs).mean(dim=(2, 3)))
        return {"loss": F.cross_entropy(logits, data_samples)} if mode == "loss" else logits


def nccl(figures: Figures, tiny: bool, folder: Path) -> None:
    """What runs where there is one GPU, and what where there are two; on a CPU gloo takes the place of NCCL."""
    backend, gpus = ("nccl" if CUDA else "gloo"), torch.cuda.device_count()
    alone = _runs(folder / "alone", 1, "none", False)
    group = _runs(folder / "group", 1, backend, False)
    figures.check(f"{backend}: a process group of one trains as none", _difference(alone, group) == 0.0,
                  difference=_difference(alone, group))  # fmt: skip
    if CUDA:
        synchronised = _runs(folder / "sync", 1, backend, True)
        difference = _difference(alone, synchronised)
        figures.check(
            "SyncBN in a process group of one trains as batch norm", difference <= CLOSE, difference=difference
        )
    if not CUDA or gpus < 2:
        figures.write({"what": f"two processes, SyncBN over both: not run, GPUs here: {gpus}"})
        return
    two = _runs(folder / "two", 2, backend, True)
    difference = _difference(alone, two)
    figures.check("nccl and SyncBN: two GPUs train as one with the joined batch", difference <= CLOSE,
                  difference=difference)  # fmt: skip


def _runs(folder: Path, size: int, backend: str, sync_bn: bool) -> dict[str, Tensor]:
    """Weights and statistics after some steps of so many processes."""
    folder.mkdir(parents=True)
    output = folder / "weights.pt"
    words = [str(size), backend, str(int(sync_bn)), str(folder / "meet"), str(output)]
    started = [subprocess.Popen([sys.executable, __file__, str(rank), *words], cwd=ROOT) for rank in range(size)]
    try:
        statuses = [process.wait(timeout=WAIT) for process in started]
    finally:
        for process in started:
            process.kill()
    if any(statuses):
        raise RuntimeError(f"{size} processes with {backend} have ended with {statuses}")
    return torch.load(output, weights_only=True, map_location="cpu")


def _difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest over all tensors, in the largest value of each."""
    assert ours.keys() == theirs.keys()
    pairs = [(ours[name].double(), theirs[name].double()) for name in ours]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


def train(rank: int, size: int, sync_bn: bool) -> dict[str, Tensor]:
    """Steps of a small supernet in float64, with this process's share of each batch."""
    from mmengine.model import BaseDataPreprocessor

    from mmrazor_lite.engine.ddp import SubnetDDP
    from mmrazor_lite.engine.optim import SubnetOptimWrapper
    from mmrazor_lite.models.algorithms import AutoSlim

    torch.manual_seed(0)
    torch.backends.cudnn.deterministic = True
    mutator = {"type": "OneShotChannelMutator", "candidate_choices": [0.25, 0.5, 0.75, 1.0], "divisor": 1}
    net = Net(nn.SyncBatchNorm if sync_bn else nn.BatchNorm2d)
    algorithm = AutoSlim(net, mutator, input_shape=(3, 8, 8), data_preprocessor=BaseDataPreprocessor()).double().train()
    device = torch.device(f"cuda:{rank}") if CUDA else torch.device("cpu")
    algorithm.to(device)
    optim = SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1, momentum=0.9), clip_grad={"max_norm": 1})
    joined = torch.distributed.is_initialized()
    model = SubnetDDP(algorithm, device_ids=[rank]) if joined else algorithm
    generator, share = torch.Generator().manual_seed(0), BATCH // size
    mine = slice(rank * share, (rank + 1) * share)
    for _ in range(STEPS):
        images = torch.randn((BATCH, 3, 8, 8), generator=generator, dtype=torch.float64)
        labels = torch.randint(10, (BATCH,), generator=generator)
        model.train_step({"inputs": images[mine].to(device), "data_samples": labels[mine].to(device)}, optim)
    return algorithm.architecture.state_dict()


def main(rank: int, size: int, backend: str, sync_bn: bool, meeting: str, output: str) -> None:
    """One process."""
    torch.set_num_threads(1)
    if CUDA:
        torch.cuda.set_device(rank)
    if backend != "none":
        torch.distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=size)
    found = train(rank, size, sync_bn)
    if rank == 0:
        torch.save(found, output)
    if backend != "none":
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1", *sys.argv[5:])
