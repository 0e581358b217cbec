"""The claims: what each adds to the jobs and to the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.claims import autoslim, ofa, slim, spos, sweep, tfnas
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.table import Row

CLAIMS = ("sweep", "spos", "autoslim", "ofa", "tfnas", "slim")


def all_jobs(study: Mapping[str, Any]) -> Iterator[Job]:
    """Every job, in the order in which they are to run: how long to train comes before what is trained."""
    yield from sweep.jobs(study, "spos")
    yield from spos.jobs(study)
    for space in sweep.spaces(study)[1:]:
        yield from sweep.jobs(study, space)
    yield from autoslim.jobs(study)
    yield from ofa.jobs(study)
    yield from tfnas.jobs(study)
    yield from slim.jobs(study)


def all_rows(study: Mapping[str, Any], jobs: Jobs, claim: str | None = None) -> Iterator[Row]:
    """The table, or the part of one claim."""
    for name, module in zip(CLAIMS, (sweep, spos, autoslim, ofa, tfnas, slim), strict=True):
        if claim in (None, name):
            yield from module.rows(study, jobs)
