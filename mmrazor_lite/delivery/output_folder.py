"""The folder of a delivery: it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import FileSet, check_place, disk_problem, sync
from mmrazor_lite.folder_lock import hold_file, released

CARD = "README.md"


def check_folder(folder: Path, force: bool) -> None:
    """Raise :class:`UserError` where a delivery cannot be written to ``folder``.

    Args:
        folder: None, an empty one, or with ``force`` one that holds something.
        force: Files of the same names are replaced; others stay.
    """
    check_place(folder, folder.absolute())
    if not force and folder.is_dir() and any(folder.iterdir()):
        first = min(entry.name for entry in folder.iterdir())
        raise UserError(f"{folder} is not empty ({first}): give another --output, or --force to replace what is there")


@contextmanager
def whole_folder(folder: Path, force: bool, own: frozenset[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``, which takes its name where the block ends without an error.

    Into a folder that holds something, files are moved one by one, the card last; the old card goes first, so that
    where one stands, the files beside it are of the same delivery.

    Args:
        folder: See :func:`check_folder`.
        force: The same.
        own: Names that files of a delivery may have: those of an earlier one that are not written again are removed.

    Raises:
        UserError: As :func:`check_folder`; another process delivers there; the disk is full.
    """
    check_folder(folder, force)
    draft = folder.absolute().with_name(f".{folder.absolute().name}.partial")
    with released():
        hold_file(folder.absolute(), f"export to {folder}")
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
        try:
            draft.mkdir(parents=True)
            yield draft
            for path in (*draft.iterdir(), draft):
                sync(path)
            _move(draft, folder.absolute(), own)
        except OSError as error:
            problem = disk_problem(error)
            if problem is None:
                raise
            raise UserError(f"{folder} cannot be written ({problem}); what was there before is kept") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, folder: Path, own: frozenset[str]) -> None:
    if not folder.is_dir() or not any(folder.iterdir()):
        os.replace(draft, folder)
        sync(folder.parent)
        return
    names = sorted((path.name for path in draft.iterdir()), key=lambda name: (name == CARD, name))
    with FileSet() as files:
        files.replace(folder / CARD)
        for name in sorted(own - set(names)):
            files.replace(folder / name)
        for name in names:
            os.replace(draft / name, files.new(folder / name))
