"""Puts the table and the pictures into docs/claims.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._jobs import ROOT
from benchmarks.claims.claims import CLAIMS, all_rows
from benchmarks.claims.job import Jobs
from benchmarks.claims.table import hours, markdown

PAGE, PICTURES = ROOT / "docs/claims.md", ROOT / "docs/results/claims"
BEGIN, END = "<!-- made by python -m benchmarks.claims --collect -->", "<!-- to here -->"


def results(study: Mapping[str, Any], jobs: Jobs) -> str:
    """The part of the page that is made."""
    parts = [markdown(all_rows(study, jobs), jobs)]
    parts.append(f"What it costs, as it is expected on the machine of the figures:\n\n{hours(jobs)}")
    for claim in CLAIMS:
        if (PICTURES / f"{claim}.png").exists():
            parts.append(f"![{claim}](results/claims/{claim}.png)\n")
    return "\n".join(parts)


def with_results(text: str, made: str) -> str:
    """The page with another made part."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{PAGE} lacks the marks of the part that is made: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def write(study: Mapping[str, Any], jobs: Jobs) -> list[Path]:
    """Draw the pictures and write the page; what changed."""
    from benchmarks.claims.pictures import draw
    from mmrazor_lite.fileio import write_text_atomic

    drawn, before = draw(study, jobs, PICTURES), PAGE.read_text()
    after = with_results(before, results(study, jobs))
    if after != before:
        write_text_atomic(PAGE, after)
    return [*drawn, *([PAGE] if after != before else [])]
