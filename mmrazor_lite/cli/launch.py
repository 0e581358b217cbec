"""Start one process per GPU, or several CPU processes, by torchrun: ``python -m mmrazor_lite.cli.launch N SCRIPT ...``.

NNODES, NODE_RANK, MASTER_ADDR and PORT of the environment are torchrun's options of several machines.
"""

from __future__ import annotations

import os
import sys

from mmrazor_lite.errors import UserError

from .environment import check_processes


def command(count: str, script: list[str]) -> list[str]:
    """Return the torchrun command of ``count`` processes on this machine; raise UserError where they do not fit."""
    if not count.isdigit() or int(count) < 1:
        raise UserError(f"number of processes is '{count}': give a positive number")
    check_processes(int(count))
    options = {
        "nnodes": os.environ.get("NNODES", "1"),
        "node_rank": os.environ.get("NODE_RANK", "0"),
        "master_addr": os.environ.get("MASTER_ADDR", "127.0.0.1"),
        "master_port": os.environ.get("PORT", "29500"),
        "nproc_per_node": count,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "torch.distributed.run", *flags, *script, "--launcher", "pytorch"]


if __name__ == "__main__":
    try:
        line = command(sys.argv[1], sys.argv[2:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.execv(line[0], line)
