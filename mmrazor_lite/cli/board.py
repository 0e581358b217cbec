"""Compare several runs, by the pages in their work dirs: one table, and one page with a picture."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mmrazor_lite.errors import UserError
from mmrazor_lite.visualization.page import Page
from mmrazor_lite.visualization.page_file import NAME, read_page, write_page
from mmrazor_lite.visualization.page_html import outcomes_table
from mmrazor_lite.visualization.side_by_side import side_by_side

from . import arguments
from .arguments import RESOURCES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("work_dirs", nargs="+", metavar="W", help="work dir of a search, a slimming, a recipe ...")
    parser.add_argument("--cost", choices=RESOURCES, default="macs", help="what to compare in (default: %(default)s)")
    text = "the page; its data is written beside it as .json (default: %(default)s)"
    parser.add_argument("-o", "--output", default="board.html", metavar="FILE", help=text)


def run(args: argparse.Namespace) -> Page:
    """Print the table, write the page, and return it.

    Raises:
        UserError: A work dir has no page, or one that is damaged; one is given twice; no run knows the cost.
    """
    target = Path(args.output)
    if target.suffix != ".html":
        raise UserError(f"--output {args.output}: give a name that ends in .html")
    pages = {_name(folder): read_page(_data(folder)) for folder in _once(args.work_dirs)}
    folders = {_name(folder): os.path.relpath(folder, target.parent) for folder in args.work_dirs}
    if not any(args.cost in dict(one.costs) for page in pages.values() for one in page.outcomes):
        known = list(dict.fromkeys(name for page in pages.values() for one in page.outcomes for name, _ in one.costs))
        raise UserError(f"--cost {args.cost}: no run knows it (known: {', '.join(known) or 'none'})")
    page = side_by_side(pages, folders, args.cost, command=arguments.typed(args))
    _show(page)
    for file in write_page(target, page):
        print(f"wrote {file}")
    return page


def _once(folders: Sequence[str]) -> Sequence[str]:
    names = [_name(folder) for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"board: '{twice}' is given twice")
    return folders


def _name(folder: str) -> str:
    return os.path.normpath(folder)


def _data(folder: str) -> Path:
    if not Path(folder).is_dir():
        raise UserError(f"board: there is no folder '{folder}'; give work dirs of runs that have ended")
    path = Path(folder) / f"{NAME}.json"
    if not path.exists():
        raise UserError(
            f"board: '{folder}' has no {path.name}, which a search, slim, specialize, a recipe and the demo write at "
            "their end; one that has ended writes it with --resume"
        )
    return path


def _show(page: Page) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = outcomes_table(page.outcomes)
    shown = Table(title=page.lead, title_justify="left", title_style="bold")
    for number, name in enumerate(found.columns):
        shown.add_column(Text(name), overflow="fold", justify="right" if number else "left")
    for row in found.rows:
        shown.add_row(*(Text(_cell(cell)) for cell in row))
    console = Console(highlight=False)
    Console(width=max(console.width, 140), highlight=False).print(shown)


def _cell(cell: str | float | None) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:.5g}"
