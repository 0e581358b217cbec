"""Files of MMRazor's that people name by their paths or addresses there, and the one that comes with this package.

Facts of open-mmlab/mmrazor, branches main and 0.x: its configs, its published subnets, and the paths in its READMEs.
"""

from __future__ import annotations

import os
import re
from functools import cache

from . import shipped

_AUTOSLIM, _SPOS = "pruning/autoslim/autoslim_mbv2_", "nas/spos/spos_"
_SHUFFLE, _MOBILE = "shufflenetv2_8xb128_in1k.py", "mobilenet_proxyless_gpu_8xb128_in1k.py"
# How the last part of a path or an address starts, or what it is; and the file below configs/.
_NAMES = (
    (r"autoslim_mbv2_+1\.5x_supernet_.*\.py", f"{_AUTOSLIM}supernet_8xb256_in1k.py"),
    (r"autoslim_mbv2_+1\.5x_search_.*\.py", f"{_AUTOSLIM}search_8xb1024_in1k.py"),
    (r"autoslim_mbv2_+1\.5x_(slimmable_)?subnet_.*\.py", f"{_AUTOSLIM}subnet_8xb256_in1k.py"),
    (r"spos_shufflenet_supernet_.*\.py", f"{_SPOS}supernet_{_SHUFFLE}"),
    (r"spos_shufflenet_search_.*\.py", f"{_SPOS}evolution_search_shufflenetv2_8xb2048_in1k.py"),
    (r"spos_shufflenet_subnet_.*\.py", f"{_SPOS}subnet_{_SHUFFLE}"),
    (r"spos_mobilenet_supernet_.*\.py", f"{_SPOS}supernet_{_MOBILE}"),
    (
        r"spos_mobilenet_search_.*\.py",
        f"{_SPOS}evolution_search_mobilenet_proxyless_gpu_flops465_8xb512_in1k.py",
    ),
    (r"spos_mobilenet_(subnet|for_check)_.*\.py", f"{_SPOS}subnet_{_MOBILE}"),
    (r"AngleNAS_.*\.yaml|spos_angelnas_.*_cfg\.yaml", "nas/spos/SPOS_MOBILENET_490M_FROM_ANGELNAS.yaml"),
    (r"spos_shufflenetv2_subnet_.*_cfg(_v\d)?\.yaml", "nas/spos/SPOS_SUBNET.yaml"),
    *(
        (rf"autoslim_mbv2_subnet_.*flops-(0\.{size}|{size}0)M_.*_cfg\.yaml", f"{folder}_{size}0M_OFFICIAL.yaml")
        for folder in ("pruning/autoslim/AUTOSLIM_MBV2",)
        for size in (53, 32, 22)
    ),
)


def here(path: str | os.PathLike) -> str | None:
    """Return the file of this package that MMRazor's of this path or address is; None where there is none.

    Returns:
        Its path from the current folder where that is one of a clone, else its name, ``mmrazor_lite::configs/...``.
    """
    name = _below(os.fspath(path))
    if name is None:
        return None
    return f"configs/{name}" if os.path.isfile(f"configs/{name}") else f"{shipped.PREFIX}configs/{name}"


def hint(path: str | os.PathLike) -> str:
    """Return what to say of :func:`here` in an error, or an empty string."""
    found = here(path)
    return f" (here it is '{found}')" if found and found != os.fspath(path) else ""


def published(address: str) -> str | None:
    """Return the path of our copy of a subnet that MMRazor publishes under an address; None of anything else."""
    name = _below(address) if re.match(r"https?://download\.openmmlab\.com/", address) else None
    return str(shipped.CONFIGS / name) if name and name.endswith(".yaml") else None


def _below(path: str) -> str | None:
    last = path.replace("\\", "/").rpartition("/")[2]
    same = _by_name().get(last)
    return same or next((file for pattern, file in _NAMES if re.fullmatch(pattern, last)), None)


@cache
def _by_name() -> dict[str, str]:
    """The files below configs/ by their names, but those of ``_base_``."""
    return {path.rpartition("/")[2]: path for path in shipped.inside() if not path.startswith("_base_")}
