"""Split the images of some classes into two lists, for a search on a part of the training images."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mmrazor_lite.errors import UserError

from . import arguments
from .data_check import IMAGES, class_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("root", help="folder with one folder of images per class, such as data/imagenet/train")
    parser.add_argument("-o", "--output", required=True, nargs=2, metavar=("TRAIN", "VAL"), help="the two lists")
    parser.add_argument("--classes", default="100", help="how many, or a file with a class a line (default: 100)")
    parser.add_argument("--fraction", type=float, default=0.2, help="of each class in the second list (default: 0.2)")
    parser.add_argument(
        "--seed", type=arguments.seed, default=0, help="of the classes drawn and of the split (default: 0)"
    )


def run(args: argparse.Namespace) -> tuple[int, int]:
    """Write the lists, one ``CLASS/NAME LABEL`` a line; return how many images each has.

    Labels count the classes from 0, in the order of their names, or of the file.

    Raises:
        UserError: No such folder, class, or number of classes; a class of too few images; a fraction out of range.
    """
    import numpy as np

    from mmrazor_lite.fileio import FileSet, write_text_atomic

    if not 0 < args.fraction < 1:
        raise UserError(f"--fraction {args.fraction}: give a number between 0 and 1")
    rng, root = np.random.default_rng(args.seed), Path(args.root)
    lines: tuple[list[str], list[str]] = ([], [])
    for label, name in enumerate(_classes(root, args.classes, rng)):
        images = sorted(file.name for file in (root / name).iterdir() if file.suffix.lower() in IMAGES)
        held_out = round(len(images) * args.fraction)
        if not 0 < held_out < len(images):
            raise UserError(f"class folder '{root / name}' has {len(images)} images, too few to split in two")
        order = rng.permutation(len(images))
        for part, chosen in zip(lines, (order[held_out:], order[:held_out]), strict=True):
            part += [f"{name}/{images[index]} {label}" for index in sorted(chosen.tolist())]
    with FileSet() as files:
        for path, part in zip(args.output, lines, strict=True):
            write_text_atomic(files.new(path), "\n".join(part) + "\n")
    for path, part in zip(args.output, lines, strict=True):
        print(f"wrote {path}: {len(part)} images")
    return len(lines[0]), len(lines[1])


def _classes(root: Path, wanted: str, rng: object) -> list[str]:
    """The class folders to take."""
    if not root.is_dir():
        raise UserError(f"image folder '{root}' not found")
    found = class_folders(root)
    if not re.fullmatch("[0-9]{1,9}", wanted):
        try:
            names = Path(wanted).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError):
            raise UserError(f"--classes {wanted}: neither a number nor a readable file with a class a line") from None
        missing = [name for name in names if name not in set(found)]
        if missing or not names:
            raise UserError(f"--classes {wanted}: {len(missing)} of {len(names)} are not in '{root}': {missing[:5]}")
        return names
    if not 0 < int(wanted) <= len(found):
        raise UserError(f"--classes {wanted}: '{root}' has {len(found)} class folders")
    return sorted(rng.choice(found, int(wanted), replace=False).tolist())
