"""A page as one HTML file: the one template. Whatever comes from outside is text in it, never markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from urllib.parse import quote

from mmrazor_lite import __version__
from mmrazor_lite.errors import UserError

from .page import UNITS, Bars, Cell, Outcome, Page, Section, Table, table, visible
from .page_charts import height_of, in_columns, legend_of, svg
from .page_style import STYLE

# Even a page that was edited loads nothing and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def html_of(page: Page) -> tuple[str, str | None]:
    """The text of the file, and why its pictures are missing where they are."""
    problems: list[str] = []
    sections = [part for part in (_found(page), *page.sections) if part is not None]
    body = "\n".join(_arranged(sections, problems))
    facts = "".join(
        f"<div><dt>{_text(fact.label)}</dt><dd>{_text(fact.value)}<small>{_text(fact.note)}</small></dd></div>"
        for fact in page.facts
    )
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_text(page.title)} ({_text(page.kind)})</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="kind">{_text(page.kind)}</p>
<h1>{_text(page.title)}</h1>
<p class="lead">{_text(page.lead)}</p>
</header>
{f'<dl class="facts">{facts}</dl>' if facts else ""}
{body}
<footer>mmrazor_lite {_text(__version__)}. The same as data: the .json file beside this one.</footer>
</main>
</body>
</html>
"""
    return text, problems[0] if problems else None


def _found(page: Page) -> Section | None:
    """The table of the outcomes."""
    if not page.outcomes:
        return None
    text = "What each network costs for one image, and how good it is."
    return Section("networks", "Networks", text, table=outcomes_table(page.outcomes), folded=False)


def outcomes_table(outcomes: tuple[Outcome, ...]) -> Table:
    """A row for each network: its scores, then its costs."""
    scores = list(dict.fromkeys(name for one in outcomes for name, _ in one.scores))
    costs = list(dict.fromkeys(name for one in outcomes for name, _ in one.costs))
    rows = (
        [one.name, *(dict(one.scores).get(name) for name in scores), *(dict(one.costs).get(name) for name in costs)]
        for one in outcomes
    )
    return table(("network", *scores, *(UNITS.get(name, name) for name in costs)), rows, (o.file for o in outcomes))


def _arranged(sections: Sequence[Section], problems: list[str]) -> Iterator[str]:
    """The sections in order; pictures that follow each other side by side, in columns of about one height.

    A phone has one column, whose order is that of the sections.
    """
    for drawn, run in groupby(sections, key=lambda section: section.chart is not None):
        if not drawn:
            yield from (_section(section, problems) for section in run)
            continue
        parts = list(run)
        heights = [height_of(part.chart) + 100 for part in parts if part.chart is not None]
        columns: list[list[str]] = [[], []]
        for number, (section, (column, _)) in enumerate(zip(parts, in_columns(heights), strict=True)):
            columns[column].append(_section(section, problems, number))
        inner = "\n".join("\n".join(['<div class="column">', *column, "</div>"]) for column in columns if column)
        yield f'<div class="columns">\n{inner}\n</div>'


def _section(section: Section, problems: list[str], order: int = 0) -> str:
    place = f' style="order:{order}"' if order else ""
    parts = [f'<section id="{_text(section.name)}"{place}>', f"<h2>{_text(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{_text(section.text)}</p>")
    drawn = True
    if section.chart is not None:
        try:
            parts.append(_figure(section, svg(section.chart, section.name)))
        except UserError as error:
            drawn = False
            problems.append(str(error))
            parts.append(f'<p class="none">No picture: {_text(str(error))}</p>')
    if section.table is not None:
        told = _table(section.table)
        count = len(section.table.rows)
        shut = section.folded and drawn and count
        summary = f"As a table ({count:,} row{'s' * (count != 1)})"
        parts.append(f"<details><summary>{summary}</summary>{told}</details>" if shut else told)
    return "\n".join([*parts, "</section>"])


def _figure(section: Section, picture: str) -> str:
    assert section.chart is not None
    names = legend_of(section.chart)
    alone = len(names) == 1 and isinstance(section.chart, Bars)  # its axis says what it is
    shown = [] if alone else names
    key = "".join(f'<li><i style="background:var(--{colour})"></i>{_text(name)}</li>' for name, colour in shown)
    picture = picture.replace('role="img"', f'role="img" aria-label="{_text(section.title)}"', 1)
    return f'<figure><ul class="key">{key}</ul>{picture}</figure>'


def _table(found: Table) -> str:
    numeric = [
        any(not isinstance(row[i], str | None) for row in found.rows)
        and not any(isinstance(row[i], str) and row[i] for row in found.rows)
        for i in range(len(found.columns))
    ]
    pairs = found.columns == ("", "")  # keys and values
    head = "".join(f"<th{' class=n' * n}>{_text(name)}</th>" for name, n in zip(found.columns, numeric, strict=True))
    rows = []
    for number, row in enumerate(found.rows):
        cells = [_cell(cell) for cell in row]
        link = found.links[number] if number < len(found.links) else ""
        if link:
            cells[0] = f'<a href="{_href(link)}">{cells[0]}</a>'
        kinds = [False] * len(cells) if pairs else numeric
        rows.append("".join(f"<td{' class=n' * n}>{cell}</td>" for cell, n in zip(cells, kinds, strict=True)))
    lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
    top = "" if not any(found.columns) else f"<thead><tr>{head}</tr></thead>"
    return f'<div class="scroll"><table{" class=pairs" * pairs}>{top}<tbody>\n{lines}\n</tbody></table></div>'


def _cell(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return _text(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:,.0f}" if abs(cell) >= 1e5 else f"{cell:.5g}"


def _href(path: str) -> str:
    """A file, from the folder of the page; never an address of elsewhere, as a colon is no part of one."""
    return quote("./" + path if not path.startswith(("/", ".")) else path, safe="/", errors="replace")


def _text(text: str) -> str:
    return escape(visible(text))
