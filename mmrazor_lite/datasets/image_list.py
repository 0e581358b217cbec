"""Lists of images: a text file with ``NAME LABEL`` a line, read alike by the check before a run and by the dataset."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from mmrazor_lite.errors import UserError

_LINE = re.compile(r"(?P<name>\S(?:.*\S)?)[ \t]+(?P<label>[0-9]+)")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SHOWN = 80


def read_list(
    file: str | Path,
    folder: str | Path,
    with_label: bool = True,
    where: str = "image list",
    classes: int | None = None,
) -> list[tuple[str, int | None]]:
    """Return name and label of every image in a list, in its order.

    The name and its label are parted by spaces or tabs. A byte-order mark, blank lines and Windows' line ends change
    nothing; a name with backslashes means the one with slashes, unless there is a file of that very name.

    Args:
        file: The list.
        folder: Where the images are; only looked at for names with backslashes.
        with_label: Whether lines end in a label; else a line is a name, and the labels are None.
        where: Names the list's place in the config, for errors.
        classes: How many the model has, where that is known.

    Raises:
        UserError: The file cannot be read, is no text, has no line, a line that is none, a label that the model has no
            class for, or two labels for one image.
    """
    found: list[tuple[str, int | None]] = []
    first: dict[str, tuple[int, int | None]] = {}
    for number, line in _lines(Path(file), where):
        match = _LINE.fullmatch(line) if with_label else None
        if with_label and match is None:
            raise UserError(
                f"{where}: '{file}' line {number} is {line[:_SHOWN]!r}, expected is an image and its label, a whole "
                "number from 0, with a space or a tab between them, such as 'cat/1.jpg 0'"
            )
        name, label = (match["name"], int(match["label"])) if match else (line, None)
        if classes is not None and label is not None and label >= classes:
            raise UserError(
                f"{where}: '{file}' line {number} has label {label}, the model has {classes} classes, 0 to "
                f"{classes - 1}: mend the list, or set the head's num_classes"
            )
        if "\\" in name and not Path(folder, name).is_file():
            name = name.replace("\\", "/")
        before, known = first.setdefault(name, (number, label))
        if known != label:
            raise UserError(
                f"{where}: '{file}' line {number} gives '{name}' label {label}, line {before} gave it {known}: keep one"
            )
        found.append((name, label))
    if not found:
        raise UserError(f"{where}: the list of images '{file}' is empty")
    return found


def _lines(file: Path, where: str) -> list[tuple[int, str]]:
    """Number, from 1, and text of the lines that are not blank."""
    try:
        content = file.read_bytes()
        if content.startswith(_WIDE):
            raise UserError(f"{where}: the list of images '{file}' is UTF-16 text: save it as UTF-8")
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "not a text file in UTF-8"
        raise UserError(f"{where}: cannot read the list of images '{file}' ({what})") from None
    if "\0" in text:
        raise UserError(f"{where}: cannot read the list of images '{file}' (not a text file)")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # not splitlines(): names may hold its others
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
