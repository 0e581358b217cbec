"""Two hosts on one machine: network namespaces joined by a cable, which can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ADDRESSES = ("192.0.2.1", "192.0.2.2")  # for examples and tests, RFC 5737
CABLE = "cable"


class Hosts:
    """Two hosts that reach each other at :data:`ADDRESSES`, and nothing else."""

    def __init__(self, names: tuple[str, str]) -> None:
        self.names = names

    def start(self, host: int, words: list[object], log: Path, **environment: str) -> subprocess.Popen:
        """Start a program on a host; its output is added to ``log``."""
        line = ["ip", "netns", "exec", self.names[host], sys.executable, "-u", *map(str, words)]
        known = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": CABLE, **environment}
        with log.open("a") as output:
            return subprocess.Popen(line, env=known, stdout=output, stderr=subprocess.STDOUT)

    def pull(self) -> None:
        """Take the cable out at the second host."""
        ip("-n", self.names[1], "link", "set", CABLE, "down")

    def plug(self) -> None:
        """Put it in again."""
        ip("-n", self.names[1], "link", "set", CABLE, "up")


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make two hosts; the test is skipped where this machine does not allow it."""
    names = tuple(f"mmrazor_lite_{os.getpid()}_{host}" for host in "ab")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the program ip (iproute2)")
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("-n", names[0], "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", names[1])
            for name, address in zip(names, ADDRESSES, strict=True):
                ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
                for link in ("lo", CABLE):
                    ip("-n", name, "link", "set", link, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {' '.join(error.cmd)}: {error.stderr.strip()}")
        yield Hosts(names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def ip(*words: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
