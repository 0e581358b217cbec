"""Which of several processes runs which test, where a process may die."""

from __future__ import annotations

import contextlib
import functools
import re
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("zoo", "tfnas", "elastic", "ofa_runs")


@functools.cache
def shared_networks(file: str) -> str | None:
    """Which of the modules with networks a file, named from the repository's root, imports: of several, the first."""
    path = ROOT / file
    names = re.findall(r"^(?:from|import) (\w+)\b", path.read_text(), re.MULTILINE) if path.is_file() else ()
    return next((name for name in NETWORKS if name in names), None)


class ByNetworks(LoadFileScheduling):
    """One process runs the files that share networks, each of which is traced once in a process.

    A process that dies fails the test it was in, and the others go on. The class above hands files that are done to the
    process that takes its place, which then waits for ever, and the test that ended one process to the next.
    """

    def _split_scope(self, nodeid):
        return shared_networks(file := super()._split_scope(nodeid)) or file

    def _assign_work_unit(self, node):
        # A process may be dead and its end not yet read: remove_node then takes back what is written down here.
        with contextlib.suppress(OSError):
            super()._assign_work_unit(node)

    def _reschedule(self, node):
        if node not in self.registered_collections:  # it takes the place of one that died, and has yet to collect
            return
        # A process holds one test back until it knows the next: with fewer than two it would wait.
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def remove_node(self, node):
        """Take back what a process had; returns the test it was in when it died, if any."""
        units = self.assigned_work.pop(node)
        pending = [(unit, test) for unit in units.values() for test, done in unit.items() if not done]
        if not pending:
            return None
        unit, crashed = pending[0]
        unit[crashed] = True
        self.workqueue.update({scope: unit for scope, unit in units.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed
