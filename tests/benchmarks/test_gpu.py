"""The GPU benchmark: what is written stays whatever ends a part, and a dry run of its parts on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--tiny"]


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which are imported from the root of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])
        from benchmarks import gpu, gpu_figures, gpu_kernel, gpu_pack

        yield SimpleNamespace(gpu=gpu, figures=gpu_figures, kernel=gpu_kernel, pack=gpu_pack)


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "figures.jsonl").read_text().splitlines()]


def test_the_parts_fit_and_come_in_the_order_of_the_questions(bench):
    names = list(bench.gpu.PARTS)
    assert names[0] == "kernel" and names.index("digits") < names.index("autoslim") < names.index("cifar")
    right = names[: names.index("autoslim")]
    assert sum(bench.gpu.PARTS[name].seconds for name in right) < 0.6 * 9 * 60  # speed has its share in any case


def test_a_part_that_hangs_or_fails_is_told_and_the_next_one_runs(bench, tmp_path, monkeypatch):
    """Each in a process of its own; figures from before the end are kept."""
    script = tmp_path / "part.py"
    script.write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from benchmarks.gpu_figures import Figures\n"
        "name, out = sys.argv[2], sys.argv[4]\n"
        "Figures(out + '/figures.jsonl', name).add('first', 1.5, 's')\n"
        "if name == 'kernel':\n"
        "    os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '60') and time.sleep(60)\n"
        "sys.exit(name == 'amp')\n"
    )
    monkeypatch.setattr(bench.gpu, "__file__", str(script))
    part = bench.gpu.Part
    monkeypatch.setattr(
        bench.gpu, "PARTS", {"kernel": part(0.6, "", ""), "amp": part(9, "", ""), "nccl": part(9, "", "")}
    )
    monkeypatch.setattr(bench.gpu, "SHORTEST", 0.1)
    assert not bench.gpu.run_all(["kernel", "amp", "nccl"], 1, tmp_path, tiny=False)
    found = [(line["part"], line["what"]) for line in lines_of(tmp_path)]
    assert found == [
        ("kernel", "first"),
        ("kernel", "cut"),
        ("amp", "first"),
        ("amp", "failed"),
        ("nccl", "first"),
        ("nccl", "time of the part"),
    ]
    left = bench.gpu.run_all(["amp", "nccl"], 0.01, tmp_path / "late", tiny=False)
    assert left and [line["what"] for line in lines_of(tmp_path / "late")] == ["left out"] * 2


def test_goals_are_judged_and_told(bench, tmp_path, capsys):
    goal = bench.figures.Goal
    figures = bench.figures.Figures(tmp_path / "a.jsonl", "part")
    figures.add("fast", 1.9, "x", goal("<=", 2.0), batch=64)
    figures.add("slow", 0.5, "x", goal(">=", 0.85))
    figures.check("bits", False, difference=0.25)
    bench.figures.Figures(tmp_path / "a.jsonl", "dry", judged=False).add("tiny", 9.0, "x", goal("<=", 2.0))
    lines = list(bench.figures.read(tmp_path / "a.jsonl"))
    assert [line.get("met") for line in lines] == [True, False, None, None]
    told = bench.figures.summary(lines)
    assert told.startswith("0 of 1 checks hold, 1 of 2 goals are met")
    assert (
        "missed part: slow: 0.5 x (goal >= 0.85: MISSED)" in told and "bits: DOES NOT HOLD  [difference 0.25]" in told
    )
    assert "tiny: 9 x (goal <= 2: not judged)" in capsys.readouterr().out


def test_a_wrong_subnet_does_not_hold(bench, tmp_path, monkeypatch):
    """What compares active and exported networks notices one filter that differs; the dry run has the right ones."""
    import torch

    figures = bench.figures.Figures(tmp_path / "figures.jsonl", "kernel")
    torch.manual_seed(0)
    network = bench.kernel._networks(True)["digits network"]()
    export = network.mutator.export

    def wrong(subnet):
        module = export(subnet)
        with torch.no_grad():
            next(p for p in module.parameters() if p.dim() == 4)[0] += 0.1
        return module

    monkeypatch.setattr(network.mutator, "export", wrong)
    bench.kernel._subnets(figures, "wrong", network, 0)
    holds = {line["what"]: line["holds"] for line in lines_of(tmp_path)}
    assert not any(value for what, value in holds.items() if "of active and exported" in what) and len(holds) == 11


def test_what_is_packed_is_python_alone_and_what_is_there_is_left_out(bench, tmp_path):
    packed = {line.split("==")[0] for line in bench.pack.needed()}
    assert {"onedl-mmengine", "onedl-mmcv", "onedl-mmpretrain", "addict", "yapf"} <= packed
    assert not packed & {"torch", "numpy", "scipy", "sympy", "triton"}  # compiled, or torch's own
    here = distribution("addict")
    for name in (f"addict-{here.version}", "mmrazor_lite-0.1.0", "no_such_package-2.0"):
        with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w"):
            pass
    assert bench.pack.missing(tmp_path) == ["mmrazor_lite==0.1.0", "no_such_package==2.0"]


def dry_run(out: Path, *parts: str) -> list[dict]:
    done = subprocess.run([*COMMAND, "--out", str(out), "--parts", *parts], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = lines_of(out)
    assert all(line.get("holds", True) for line in lines)
    assert {line["part"] for line in lines if line["what"] == "time of the part"} == set(parts)
    return lines


def test_a_dry_run(tmp_path):
    """One part as typed; the others in the wide run."""
    lines = dry_run(tmp_path, "kernel")
    assert lines[0]["part"] == "machine" and lines[0]["tiny"] and sum("holds" in line for line in lines) > 20


@pytest.mark.wide
def test_a_dry_run_of_all_other_parts(bench, tmp_path):
    lines = dry_run(tmp_path, *[name for name in bench.gpu.PARTS if name != "kernel"])
    goals = {line["what"] for line in lines if "goal" in line}
    assert {"sandwich / plain step", "projected time of AutoSlim's whole table"} <= goals
    assert {"projected time of TF-NAS's search", "weight step / two paths", "SPOS step / static path"} <= goals
    assert all(line["met"] is None for line in lines if "goal" in line)
