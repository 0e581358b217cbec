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
        met: Whether that meets the criterion; counts once all ``jobs`` are done. None where there is nothing to meet.
        jobs: What it is judged by.
    """

    what: str
    criterion: str
    figure: str
    met: bool | None
    jobs: Sequence[str]

    def state(self, jobs: Jobs) -> str:
        """``met``, ``missed`` or ``reported``, or how many of the jobs are done."""
        done = sum(jobs.done(name) for name in self.jobs)
        if done < len(self.jobs):
            return f"{done} of {len(self.jobs)} jobs"
        return "reported" if self.met is None else "**met**" if self.met else "**missed**"


def hours(jobs: Jobs) -> str:
    """What each claim takes of one core, all of it and what is left, as it is expected."""
    lines, whole, left = ["| jobs of | number | hours of one core | left |", "|---|---|---|---|"], 0.0, 0.0
    for claim in dict.fromkeys(job.claim for job in jobs.jobs.values()):
        own = [job for job in jobs.jobs.values() if job.claim == claim]
        all_of_it = sum(job.minutes for job in own) / 60
        rest = sum(job.minutes for job in own if not jobs.done(job.name)) / 60
        lines.append(f"| {claim} | {len(own)} | {all_of_it:.1f} | {rest:.1f} |")
        whole, left = whole + all_of_it, left + rest
    return "\n".join([*lines, f"| all | {len(jobs.jobs)} | {whole:.1f} | {left:.1f} |"]) + "\n"


def markdown(rows: Iterable[Row], jobs: Jobs) -> str:
    """The table."""
    lines = ["| claim | criterion | found | state |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row.what} | {row.criterion} | {row.figure or '-'} | {row.state(jobs)} |")
    return "\n".join(lines) + "\n"
