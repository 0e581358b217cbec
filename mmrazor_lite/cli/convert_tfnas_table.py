"""Turn a latency table of TF-NAS's authors into one of ours."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mmrazor_lite.config import build_mutator, load_config
from mmrazor_lite.fileio import require_file

if TYPE_CHECKING:
    from mmrazor_lite.estimators.latency_table import LatencyTable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("table", help="latency_gpu.pkl or latency_cpu.pkl of the authors, or the same as .npz")
    parser.add_argument(
        "--config",
        default="mmrazor_lite::configs/nas/tfnas/tfnas_search_1xb32_in1k100.py",
        help="whose search space the table is for (default: %(default)s)",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the table, JSON")


def run(args: argparse.Namespace) -> LatencyTable:
    """Write the table, say what is odd about the entries, and return it."""
    from mmrazor_lite.estimators.latency_tfnas import read_tfnas_table, tfnas_table

    source = read_tfnas_table(require_file(args.table, "latency table"))
    otherwise = f"--config {args.config}: it has no search space; take the config of a search"
    mutator = build_mutator(load_config(args.config), otherwise)
    print(source.facts())
    table = tfnas_table(source, mutator)
    table.write(args.output)
    print(
        f"wrote {args.output}: networks of {args.config} take {table.extreme(largest=False):.4f} to "
        f"{table.extreme(largest=True):.4f} ms; none of their widths has a negative entry"
    )
    return table
