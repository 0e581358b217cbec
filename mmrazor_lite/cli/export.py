"""Deliver a network: written for some runtimes, proven and measured in each, with a card beside the files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mmrazor_lite.errors import UserError

from . import arguments

if TYPE_CHECKING:
    from mmrazor_lite.delivery import Delivery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    text = "file of a subnet (.pth, or the .yaml beside it), or a config; or give --model"
    parser.add_argument("file", nargs="?", metavar="FILE", help=text)
    arguments.add_network(parser, "trained weights of --model, or of a config's network")
    parser.add_argument("--format", nargs="+", default=["pt2", "onnx"], metavar="NAME", help=_FORMATS)
    parser.add_argument("--int8", action="store_true", help="files of 8-bit integers too, of onnx and openvino")
    parser.add_argument("--calibrate", metavar="DIR", help="images that measure the ranges for --int8")
    parser.add_argument("--output", dest="output_dir", required=True, metavar="DIR", help="folder of all files")
    parser.add_argument("--force", action="store_true", help="replace what an earlier export wrote there")
    parser.add_argument("--images", metavar="DIR", help="images of the proof, with labels by class folders")
    parser.add_argument("--count", type=int, metavar="N", help="of them (default: 1000; 100 random ones without)")
    arguments.add_reading(parser)
    parser.add_argument("--normalise", action="store_true", help="normalise inside the files: they take pixels 0..255")
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX (default: what torch's exporter is made for)")
    parser.add_argument("--batch-size", nargs="+", type=int, default=[1], metavar="N", help="of the timing, beside 1")
    parser.add_argument("--repeats", type=int, default=15, metavar="N", help="rounds of the timing (default: 15)")
    parser.add_argument("--threads", type=int, metavar="N", help="of every runtime (default: torch's)")
    parser.add_argument("--license", metavar="NAME", help="of what the network was made of, such as apache-2.0")
    parser.add_argument("--name", metavar="TEXT", help="of the network in the card")
    parser.add_argument("--seed", type=arguments.seed, default=0, help="of everything random (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the card's front matter as JSON and nothing else")


_FORMATS = "pt2, onnx, openvino, torchscript (default: pt2 onnx)"


def run(args: argparse.Namespace) -> Delivery:
    """Write the folder, print the card, and return what was delivered.

    Raises:
        UserError: No network, no images, a package that is missing, a folder that is not empty, or a file that does not
            compute what the network does.
    """
    from mmrazor_lite.delivery.int8 import check_int8
    from mmrazor_lite.delivery.model_card import card, front_matter
    from mmrazor_lite.delivery.output_folder import check_folder
    from mmrazor_lite.delivery.runtimes import runtimes_of

    if not args.output_dir:
        raise UserError("--output '': give the path of a folder")
    runtimes_of(args.format)
    if args.int8 != (args.calibrate is not None):
        raise UserError("export: --int8 and --calibrate DIR belong together: give both, or none")
    if args.int8:
        check_int8(args.format)
    check_folder(Path(args.output_dir), args.force)
    with arguments.only_json(args):
        done = _delivered(args)
    if args.json:
        print(json.dumps(front_matter(done)["mmrazor_lite"]))
        return done
    print(card(done).split("---\n", 2)[2].partition("## How to load it")[0].strip())
    for path in (path for file in done.files for path in file.files):
        print(f"wrote {path}")
    print(f"wrote {done.folder / 'README.md'}")
    return done


def _delivered(args: argparse.Namespace) -> Delivery:
    from mmrazor_lite.delivery import deliver
    from mmrazor_lite.delivery.delivering import COUNT
    from mmrazor_lite.delivery.int8 import IMAGES

    from .deliverable import find, images

    found = find(args)
    notes = list(found.network.notes)
    batches = calibration = None
    if args.images is not None:
        batches, more = images(found, args.images, args, args.count or COUNT, "--images")
        notes += more
    elif found.shape is None:
        raise UserError("export: nothing says the size of images: give --size H W, or a folder of --images")
    if args.int8:
        calibration, more = images(found, args.calibrate, args, IMAGES, "--calibrate")
        notes += [line for line in more if line not in notes]
    return deliver(
        found.network.module,
        args.output_dir,
        batches,
        formats=args.format,
        int8=args.int8,
        calibrate=calibration,
        example=found.shape,
        normalisation=found.normalisation,
        inside=args.normalise,
        original=found.original,
        count=args.count,
        batch_sizes=args.batch_size,
        repeats=args.repeats,
        threads=args.threads,
        opset=args.opset,
        name=args.name or found.network.title,
        source=found.source,
        license=args.license,
        images_from=args.images,
        notes=notes,
        force=args.force,
        seed=args.seed,
        say=_say,
    )


def _say(line: str) -> None:
    print(line, flush=True)
