"""Rows of the table of claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.claims.job import Jobs


@dataclass(frozen=True)
class Row:
    """One line: a claim, what speaks for it so far, and whether it is met.

    Attributes:
        what: The claim.
        criterion: In words, with its number.
        figure: What was found so far; empty for nothing yet.
        met: Whether that meets the criterion; counts once all ``jobs`` are done.
        jobs: What it is judged by.
    """

    what: str
    criterion: str
    figure: str
    met: bool
    jobs: Sequence[str]

    def state(self, jobs: Jobs) -> str:
        """``met``, ``missed``, or how many of the jobs are done."""
        done = sum(jobs.done(name) for name in self.jobs)
        if done < len(self.jobs):
            return f"{done} of {len(self.jobs)} jobs"
        return "**met**" if self.met else "**missed**"


def markdown(rows: Iterable[Row], jobs: Jobs) -> str:
    """The table."""
    lines = ["| claim | criterion | found | state |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row.what} | {row.criterion} | {row.figure or '-'} | {row.state(jobs)} |")
    return "\n".join(lines) + "\n"
