"""The notebook of docs/: well formed, without stored outputs, and it runs from the first cell to the last."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTEBOOK = DOCS / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
BY_NBCLIENT = """
import sys, nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.get("outputs", ()):
        print(output.get("text") or output.get("data", {}).get("text/plain", ""))
"""


def test_cells_are_plain_python_without_outputs():
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in CELLS)
    for code in CODE:
        ast.parse(code)  # no magics: the cells are a script too
    for target in re.findall(r"\]\(([^)#]+)", "".join("".join(cell["source"]) for cell in CELLS)):
        assert (DOCS / target).is_file(), target


@pytest.mark.wide
def test_the_notebook_runs(root, tmp_path):
    """By nbclient, as a reader's Jupyter does it; where that is not installed, its cells as one script."""
    path = os.pathsep.join([str(root), *sys.path])  # where nbclient was found
    environment = {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    by_client = all(map(importlib.util.find_spec, ("nbclient", "ipykernel")))
    words = ["-c", BY_NBCLIENT, str(NOTEBOOK)] if by_client else ["-c", "\n".join(CODE)]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    full, before, after = (float(number) for number in re.findall(r"([\d.]+)%(?: before| after|\n)", done.stdout)[:3])
    assert full == before > 90 and after > before - 5
    macs = [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) macs, accuracy", done.stdout)]
    assert len(macs) == 4 and macs == sorted(macs, reverse=True)
    assert {"small.pth", "small.pt2", "small.yaml", "report.png"} <= {path.name for path in tmp_path.iterdir()}
