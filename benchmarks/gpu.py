"""What has to run on CUDA, in one command of nine minutes: is it right, how fast is it, what would CIFAR-10 take.

    python benchmarks/gpu.py --out work_dirs/gpu              # all parts, at most 9 minutes
    python benchmarks/gpu.py --parts kernel amp autoslim      # some of them, in this order
    python benchmarks/gpu.py --tiny                           # a dry run of everything, on a CPU: figures mean nothing

Each part is a process of its own with a limit of seconds: one that fails, hangs or takes too long is told, its figures
so far are kept, and the next one begins. Every figure is printed and added to ``OUT/figures.jsonl`` as soon as it is
known, with the goal that it has. Without a GPU only ``--tiny`` runs. Where packages are missing and nothing can be
downloaded: ``benchmarks/gpu.sh`` with what ``benchmarks/gpu_pack.py`` packed.

The exit status is 1 where a check does not hold or a part failed; a goal that is missed is told and no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

from benchmarks.gpu_figures import Figures, read, summary

FIGURES = "figures.jsonl"
RESERVE = 5.0  # seconds at the end, for the summary
SHORTEST = 10.0  # seconds: with less left, a part is not begun
DRY = 8  # times as long for everything in a dry run, whose machine may be busy


@dataclass(frozen=True)
class Part:
    """One part: the seconds that it may take, the function (figures, tiny, folder) that it is, and what it is about."""

    seconds: float
    function: str
    about: str


PARTS = {
    "kernel": Part(70, "gpu_kernel:kernel", "activated, exported and full networks agree in fp64, fp32 and bf16"),
    "amp": Part(35, "gpu_training:amp", "mixed precision: losses, gradients, the scaler of float16"),
    "nccl": Part(60, "gpu_processes:nccl", "a process group of one, and of two where there are two GPUs; SyncBN"),
    "resume": Part(60, "gpu_commands:resume", "a training that is killed and resumed ends as one that is not"),
    "digits": Part(80, "gpu_commands:digits", "the whole chain of commands on handwritten digits"),
    "autoslim": Part(60, "gpu_speed:autoslim", "a subnet beside its static network; the sandwich beside its parts"),
    "spos": Part(25, "gpu_speed:spos", "a step beside the static network of its path"),
    "ofa": Part(30, "gpu_speed:ofa", "a step of four subnets beside its static parts"),
    "tfnas": Part(40, "gpu_speed:tfnas", "both kinds of steps beside static networks"),
    "evaluation": Part(35, "gpu_evaluation:evaluation", "a score with recalibration beside plain inference"),
    "images": Part(15, "gpu_evaluation:images", "DeviceImages: how fast images come"),
    "cifar": Part(50, "gpu_cifar:cifar", "ResNet-56: images/s, and what the whole table would take"),
    "tfnas_search": Part(30, "gpu_cifar:tfnas_search", "what an epoch and the whole search of TF-NAS would take"),
    "compiled": Part(90, "gpu_speed:compiled", "static networks that are compiled, which takes most of its time"),
}  # in this order


def run(name: str, limit: float, out: Path, tiny: bool) -> bool:
    """Run a part in a process of its own; return whether it came to its end."""
    figures = Figures(out / FIGURES, name)
    command = [sys.executable, "-u", __file__, "--inside", name, "--out", str(out), *["--tiny"] * tiny]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(tiny), start_new_session=True)
    try:
        status = process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        figures.write({"what": "cut", "after": round(limit, 1), "unit": "s", "said": "its figures so far are kept"})
        return False
    finally:  # with all that it has started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if status:
        figures.write({"what": "failed", "exit_status": status, "said": "its error is above"})
        return False
    figures.add("time of the part", round(time.monotonic() - began, 1), "s", limit=round(limit, 1))
    return True


def inside(name: str, out: Path, tiny: bool) -> None:
    """What runs in the process of a part."""
    module, function = PARTS[name].function.split(":")
    figures = Figures(out / FIGURES, name, judged=not tiny)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    getattr(importlib.import_module(f"benchmarks.{module}"), function)(figures, tiny, folder)


def run_all(names: Sequence[str], minutes: float, out: Path, tiny: bool) -> bool:
    """Run parts one after the other within ``minutes``; return whether all came to their ends and all checks hold."""
    scale = DRY if tiny else 1
    end = time.monotonic() + 60 * scale * minutes - RESERVE
    whole = True
    for name in names:
        left = end - time.monotonic()
        if left < SHORTEST:
            Figures(out / FIGURES, name).write({"what": "left out", "said": f"{minutes:g} minutes are over"})
            continue
        whole &= run(name, min(scale * PARTS[name].seconds, left), out, tiny)
    return whole & all(line.get("holds", True) for line in read(out / FIGURES))


def _environment(tiny: bool) -> dict[str, str]:
    """Of a part: equal results of cuBLAS on every run, nothing of another torchrun, one thread for a dry run."""
    own = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {"OMP_NUM_THREADS": "1"} if tiny else {}
    return {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **own, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def main() -> None:
    listed = "\n".join(f"  {name:13}{part.seconds:3.0f} s  {part.about}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f"parts, and what each may take at most:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help="run these only, in the order below")
    parser.add_argument("--minutes", type=float, default=9, help="for all parts together (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/gpu"), help="folder (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and few rounds, on a CPU too")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    out = args.out.resolve()
    if args.inside:
        inside(args.inside, out, args.tiny)
        return
    import torch

    if not torch.cuda.is_available() and not args.tiny:
        parser.exit(2, "error: torch sees no GPU; --tiny is a dry run on the CPU\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / FIGURES).unlink(missing_ok=True)
    from benchmarks._timing import machine

    Figures(out / FIGURES, "machine").write({"what": machine(), "gpus": torch.cuda.device_count(), "tiny": args.tiny})
    names = [name for name in PARTS if name in (args.parts or PARTS)]
    whole = run_all(names, args.minutes, out, args.tiny)
    print(f"\n{summary(list(read(out / FIGURES)))}\nAll figures: {out / FIGURES}", flush=True)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
