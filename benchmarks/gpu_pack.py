"""Pack what the GPU benchmark needs on a machine that reaches no package index, in one folder that git ignores.

    python benchmarks/gpu_pack.py                   # here, with an index: wheels into build/gpu_pack
    sh benchmarks/gpu.sh --out work_dirs/gpu        # there: installs what is missing, then runs the benchmark

The wheel of this project, and of everything that it needs, each package that is Python alone: among them those of
OpenMMLab. What is compiled (torch, numpy, scipy, OpenCV and the like) has to be there already, in any version that
docs/install.md allows. The versions are those of the environment that packs.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build/gpu_pack"
PROJECT = "mmrazor_lite"
LIMIT = 64 << 20  # bytes
THERE = ("torch", "torchvision")  # on every machine with a GPU, and all that they need


def needed() -> list[str]:
    """Requirements NAME==VERSION of all packages of Python alone that the project needs, at any depth."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    waiting = [line for line in lines if line and not line.startswith("#")]
    seen, found = {plain(name) for name in THERE}, []
    while waiting:
        name = plain(re.match(r"[\w.-]+", waiting.pop())[0])
        if name in seen:
            continue
        seen.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another Python or system, or left out on purpose
            continue
        waiting += [line for line in package.requires or () if "extra ==" not in line]
        if _is_python(package):
            found.append(f"{name}=={package.version}")
    return sorted(found)


def pack(folder: Path) -> None:
    """Make the wheels.

    Raises:
        SystemExit: pip cannot, or they are more than :data:`LIMIT`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    for left in (*ROOT.glob("build/lib"), *ROOT.glob("build/bdist.*")):  # of another state of the project
        shutil.rmtree(left)
    subprocess.run([*pip, str(ROOT), *needed()], check=True)
    wheels = sorted(folder.glob("*.whl"))
    compiled = [wheel.name for wheel in wheels if not wheel.name.endswith("-none-any.whl")]
    size = sum(wheel.stat().st_size for wheel in wheels)
    if compiled or size > LIMIT:
        sys.exit(f"error: {folder}: {size / 2**20:.1f} MiB, at most {LIMIT >> 20} fit; compiled: {compiled or 'none'}")
    print(f"{folder}: {len(wheels)} wheels, {size / 2**20:.1f} MiB\n" + "\n".join(wheel.name for wheel in wheels))


def missing(folder: Path) -> list[str]:
    """Requirements NAME==VERSION of the wheels in a folder whose packages this environment does not have."""
    found = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        if plain(name) == plain(PROJECT) or not _is_there(name):
            found.append(f"{name}=={version}")
    return found


def plain(name: str) -> str:
    """The name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_python(package: Distribution) -> bool:
    return "Root-Is-Purelib: true" in (package.read_text("WHEEL") or "")


def _is_there(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="default: build/gpu_pack")
    parser.add_argument("--missing", action="store_true", help="print what this environment lacks of those packed")
    args = parser.parse_args()
    if args.missing:
        print("\n".join(missing(args.folder)))
    else:
        pack(args.folder)


if __name__ == "__main__":
    main()
