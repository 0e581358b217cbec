"""A cluster of two nodes on one machine, of the programs of slurm that are installed, and its users' commands."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .processes import free_port

NODES = (socket.gethostname(), f"{socket.gethostname()}-2")  # the first is where processes meet, by its name
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "squeue", "sinfo", "scancel")
CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 Gres=gpu:1
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 Gres=gpu:1
PartitionName=part Nodes=ALL Default=YES State=UP
"""


class Cluster:
    """Partition ``part`` of two nodes, each with eight cores and a GPU by name alone."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def said(self, *words: str) -> str:
        """What a command of slurm says."""
        return subprocess.run(words, env=self.environment, check=True, capture_output=True, text=True).stdout


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start one; the test is skipped where slurm is not installed, or may not be started."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a cluster needs slurm and munge, and root: {', '.join(missing) or 'not root'}")
    for name in ("munge", "state", *(f"spool_{node}" for node in NODES)):
        (folder / name).mkdir(mode=0o755)
    (folder / "gpu").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu\n")
    names = {"host": socket.gethostname(), "folder": folder, "nodes": NODES, "ports": [free_port() for _ in range(3)]}
    (folder / "slurm.conf").write_text(CONFIG.format(**names))
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o600)
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = ["munged", "--force", *(f"--{flag}={folder}/munge/{name}" for flag, name in files.items())]
    made = Cluster(folder)
    try:
        for line in (munge, ["slurmctld", "-c"], *(["slurmd", "-N", node] for node in NODES)):
            done = subprocess.run(line, env=made.environment, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"{line[0]} cannot be started here: {done.stderr.strip()}")
        last = time.monotonic() + 60
        while made.said("sinfo", "--noheader", "--states=idle", "--format=%D").strip() != "2":
            assert time.monotonic() < last, made.said("sinfo", "--long", "--Node")
            time.sleep(0.2)
        yield made
        made.said("scancel", "--partition=part", "--signal=KILL")
    finally:
        for file in [*folder.glob("slurm*.pid"), folder / "munge" / "pid"]:
            if file.is_file():
                os.kill(int(file.read_text()), 15)
