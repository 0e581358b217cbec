"""The files of a page: ``report.html`` for people, ``report.json`` with the same facts, both whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import FileSet, disk_problem
from mmrazor_lite.note import note

from .page import FORMAT, Page, page_of
from .page_html import html_of

NAME = "report"
WARNING = 30


def write_page(path: str | os.PathLike, page: Page, data: bool = True) -> list[Path]:
    """Write a page and its data, in the place of an older one, and return the files.

    It comes after the result, which it must not cost: where it cannot be written, that is a line of the log, and there
    are none. Without matplotlib it has no pictures, which is a line too.

    Args:
        path: Of the page, such as ``W/report.html``.
        data: Whether the same facts are written beside it, as ``W/report.json``.
    """
    path = Path(path)
    text, missing = html_of(page)
    contents = {path: text}
    if data:
        contents[path.with_suffix(".json")] = json.dumps(page.as_dict(), indent=1) + "\n"
    try:
        with FileSet() as files:
            for target, content in contents.items():
                files.new(target).write_bytes(content.encode("utf-8", "replace"))
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and disk_problem(error) is None:
            raise
        _remove(contents)
        note(f"no {path.name}: {error}; the results are whole", WARNING)
        return []
    if missing is not None:
        note(f"{path.name} has no pictures: {missing}", WARNING)
    return list(contents)


def page_path(folder: str | os.PathLike) -> Path:
    """Where the page of a work dir is."""
    return Path(folder) / f"{NAME}.html"


def read_page(path: str | os.PathLike) -> Page:
    """The page of a ``report.json``.

    Raises:
        UserError: It is none; says in what.
    """
    what = f"the data of a page ({FORMAT})"
    try:
        return page_of(jsonio.parse(jsonio.read_bytes(path, what=what)))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not {what} ({error}); run what wrote it again, with --resume") from None


def _remove(paths: dict[Path, str]) -> None:
    """A page of an earlier result must not stand beside this one."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return
