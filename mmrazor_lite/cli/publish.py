"""Write the weights of a checkpoint alone, with its check sum in the name of the file."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import FileSet, check_outputs, require_file

_KEPT = ("mmrazor_lite", "dataset_meta", "CLASSES")  # of the meta: what the weights are of
_DIGITS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags: those of both releases of MMRazor."""
    parser.add_argument("checkpoint", help="of a training run, or any other file of weights")
    parser.add_argument(
        "out_file", nargs="?", metavar="OUTPUT", help="name of the new file; before its ending, the check sum is put in"
    )
    parser.add_argument("--model-name", metavar="NAME", help="with --out-dir: what the new file's name begins with")
    parser.add_argument("--timestamp", metavar="TEXT", help="with --out-dir: what comes after it")
    parser.add_argument("--out-dir", metavar="DIR", help="folder of the new file, instead of OUTPUT")
    parser.add_argument("--mutable-cfg", metavar="FILE", help="subnet file to copy beside it, under its name")
    parser.add_argument("--channel-cfg", metavar="FILE", help="the same")


def run(args: argparse.Namespace) -> Path:
    """Write the file, and return its path.

    Raises:
        UserError: Where it goes is said twice or not at all, or the checkpoint cannot be read.
    """
    source = require_file(args.checkpoint, "checkpoint")
    folder, stem = _place(args, source)
    copies = {key: require_file(path, f"--{key.replace('_', '-')}") for key in ("mutable_cfg", "channel_cfg")
              if (path := getattr(args, key))}  # fmt: skip

    from mmrazor_lite.checkpoints import checkpoint_hash, read_checkpoint, save_checkpoint, state_dict_of
    from mmrazor_lite.checkpoints.mmrazor_names import beside_the_network, told_left_out
    from mmrazor_lite.note import note

    content = read_checkpoint(source)
    meta = content.get("meta") if isinstance(content.get("meta"), dict) else {}
    state = state_dict_of(content, source)
    beside = beside_the_network(state)
    weights = {key: value for key, value in state.items() if key not in beside}
    whole = {"meta": {key: meta[key] for key in _KEPT if key in meta}, "state_dict": weights}
    with tempfile.TemporaryDirectory() as draft_folder, FileSet() as files:
        draft = Path(draft_folder) / "draft.pth"
        save_checkpoint(whole, draft)
        name = f"{stem}-{checkpoint_hash(draft)[:_DIGITS]}"
        target = folder / f"{name}.pth"
        check_outputs([target], [source])
        shutil.copyfile(draft, files.new(target))
        for key, path in copies.items():
            shutil.copyfile(path, files.new(folder / f"{name}_{key}.yaml"))
    left_out = told_left_out(beside, beside)
    if left_out:
        note(f"{source}: {left_out}")
    note(f"wrote {target} (sha256 {checkpoint_hash(target)}): the weights of {source} and what they are of")
    return target


def _place(args: argparse.Namespace, source: Path) -> tuple[Path, str]:
    """The folder of the new file, and its name without check sum and ending."""
    if (args.out_file is None) == (args.out_dir is None):
        raise UserError(
            f"{source}: give the new file's name, or --out-dir DIR with --model-name and --timestamp, and not both"
        )
    if args.out_file is not None:
        if args.model_name or args.timestamp:
            raise UserError("--model-name and --timestamp go with --out-dir; a file's name says all of it")
        path = Path(args.out_file)
        return path.parent, path.name.removesuffix(".pth")
    return Path(args.out_dir), "_".join(part for part in (args.model_name or source.stem, args.timestamp) if part)
