"""Packaging of mmrazor_lite; tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "mmrazor_lite/__init__.py").read_text(encoding="utf-8")).group(1)
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
README = ROOT / "README.md"

setup(
    name="mmrazor_lite",
    version=VERSION,
    description="Train one supernet, search it under a budget, hand back plain PyTorch modules",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["mmrazor_lite", "mmrazor_lite.*"]),
    python_requires=">=3.10",
    install_requires=[line for line in LINES if line and not line.startswith("#")],
    extras_require={
        "tests": ["pytest", "pytest-xdist>=3.7", "hypothesis", "ruff", "timm"],
        "timm": ["timm"],
        "tensorboard": ["tensorboard"],
        "onnx": ["onnx", "onnxruntime"],
        "docs": ["mkdocs<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.26"],
    },
    entry_points={"console_scripts": ["mmrazor-lite=mmrazor_lite.cli:main"]},
)
