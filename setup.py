"""Packaging of mmrazor_lite; tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "mmrazor_lite/__init__.py").read_text(encoding="utf-8")).group(1)
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
README = ROOT / "README.md"
# What a source distribution has beside the package, so that its tests, tools and pages are those of a clone.
IN_SDIST = (
    "include requirements.txt CHANGELOG.md Makefile mkdocs.yml",
    *(f"graft {folder}" for folder in (".ci", "benchmarks", "configs", "docs", "tests", "tools")),
    "global-exclude __pycache__/* *.py[cod] .DS_Store",
)


class WholeSdist(sdist):
    """A source distribution of all that a clone has."""

    def make_distribution(self) -> None:
        """Add the files before they are packed."""
        for line in IN_SDIST:
            self.filelist.process_template_line(line)
        self.filelist.sort()
        self.filelist.remove_duplicates()
        super().make_distribution()


setup(
    name="mmrazor_lite",
    version=VERSION,
    description="Train one supernet, search it under a budget, hand back plain PyTorch modules",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["mmrazor_lite", "mmrazor_lite.*"]), "mmrazor_lite.configs"],
    # The configs stand once, at the top; an installed package has them inside (mmrazor_lite/shipped.py).
    package_dir={"mmrazor_lite.configs": "configs"},
    package_data={"mmrazor_lite": ["py.typed"], "mmrazor_lite.configs": ["**/*.py", "**/*.yaml"]},
    python_requires=">=3.10",
    install_requires=[line for line in LINES if line and not line.startswith("#")],
    extras_require={
        "tests": ["pytest>=8", "pytest-xdist>=3.7", "hypothesis", "ruff", "setuptools>=77", "timm>=1.0.31"],
        "timm": ["timm>=1.0.31"],
        "notebook": ["nbclient", "ipykernel"],
        "tensorboard": ["tensorboard"],
        "onnx": ["onnx", "onnxscript", "onnxruntime"],
        "deliver": ["onnx", "onnxscript", "onnxruntime", "openvino>=2025", "nncf>=3"],
        "docs": ["mkdocs<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.26"],
    },
    entry_points={"console_scripts": ["mmrazor-lite=mmrazor_lite.cli:main"]},
    cmdclass={"sdist": WholeSdist},
)
