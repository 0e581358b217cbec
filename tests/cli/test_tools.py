"""The scripts in tools/ are five lines, run from any folder, and need no installation."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from draws import some
from robustness.processes import free_port

SCRIPTS = {
    "train.py": "train",
    "search.py": "search",
    "test.py": "test",
    "analyze.py": "analyze",
    "slim.py": "slim",
    "export.py": "export",
    "mmcls/train_mmcls.py": "train",
    "mmcls/search_mmcls.py": "search",
    "mmcls/test_mmcls.py": "test",
    "model_converters/split_checkpoint.py": "split",
    "model_converters/convert_ofa_ckpt.py": "convert-ofa",
    "model_converters/convert_supernet2subnet.py": "extract",
    "model_converters/publish_model.py": "publish",
    "specialize.py": "specialize",
    "predictor/collect.py": "predictor-collect",
    "predictor/train.py": "predictor-train",
    "latency/build_table.py": "latency",
    "latency/convert_tfnas_table.py": "convert-tfnas-table",
    "nas/parse_tfnas.py": "parse-tfnas",
    "dataset/make_lists.py": "image-lists",
    "recipes/autoslim_cifar10.py": "autoslim-cifar10",
    "misc/print_config.py": "print-config",
    "misc/get_flops.py": "flops",
}
SHELL = [f"{kind}_{step}.sh" for kind in ("dist", "slurm") for step in ("train", "search", "test")]


def test_scripts_are_thin_and_alike(root):
    """Those that are not run here differ from those that are in a name, and in how deep they lie."""
    for script, name in SCRIPTS.items():
        assert (root / "tools" / script).read_text().splitlines() == [
            "import pathlib",
            "import sys",
            f"sys.path[0] = str(pathlib.Path(__file__).resolve().parents[{1 + script.count('/')}])"
            "  # works uninstalled, from any folder",
            "from mmrazor_lite.cli import main",
            f'sys.exit(main(["{name}", *sys.argv[1:]]))',
        ]


@pytest.mark.parametrize("script", some(SCRIPTS, "train.py", "predictor/train.py", "misc/get_flops.py"))
def test_script_runs_anywhere(script, root, tmp_path):
    path = root / "tools" / script
    done = subprocess.run([sys.executable, path, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"mmrazor-lite {SCRIPTS[script]}" in done.stdout


@pytest.mark.parametrize("script", SHELL)
def test_shell_script_shows_its_usage(script, root, tmp_path):
    done = subprocess.run([root / "tools" / script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


@pytest.mark.parametrize(
    ("script", "words", "expected"),
    [
        ("slurm_train.sh", "part job c.py W --amp", "__main__.py train c.py --work-dir W --amp --launcher slurm"),
        ("slurm_search.sh", "part job c.py k.pth W", "__main__.py search c.py k.pth --work-dir W --launcher slurm"),
        ("slurm_test.sh", "part job c.py none W", "__main__.py test c.py none --work-dir W --launcher slurm"),
    ],
)
def test_slurm_arguments_are_in_mmrazors_order(script, words, expected, root, tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GPUS": "4", "SRUN_ARGS": "--exclusive"}
    env["PYTHON"] = sys.executable
    done = subprocess.run([root / "tools" / script, *words.split()], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-p part --job-name=job --gres=gpu:4 --ntasks=4")
    assert "--exclusive" in done.stdout
    assert done.stdout.rstrip().endswith(expected)


WORKER = """
import os, signal, sys, time
if os.environ["RANK"] in sys.argv[1]:
    sys.stderr.write("error: of " + os.environ["RANK"] + "\\n")
    {}
time.sleep(60)
"""
LAUNCHER = """
import sys
from mmrazor_lite.cli.torchrun import Machines, start

sys.exit(start(Machines(2, port=int(sys.argv[1])), sys.argv[2:]))
"""


def start(root, folder, ranks: str, action: str, port: str | None = None) -> subprocess.Popen:
    """Two processes by the launcher; ``action`` is what those of ``ranks`` do, the others wait."""
    script = folder / "worker.py"
    script.write_text(WORKER.format(action))
    words = [sys.executable, "-c", LAUNCHER, port or str(free_port()), script, ranks]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(words, cwd=folder, env=environment, text=True, **pipes)


@pytest.mark.parametrize(
    ("ranks", "action", "status", "line"),
    [
        ("01", "sys.exit(2)", 2, "process 0 has ended with exit code 2, its error is above; the others were ended"),
        pytest.param(
            "1",
            "sys.exit(3)",
            1,
            "process 1 has ended with exit code 3, its error is above; the others were ended",
            marks=pytest.mark.wide,
        ),
        ("1", "os.kill(os.getpid(), 9)", 1, "process 1 was killed by signal 9 (SIGKILL), the others were ended: out"),
    ],
)
def test_a_process_that_fails_is_told_in_one_line(root, tmp_path, ranks, action, status, line):
    launcher = start(root, tmp_path, ranks, action)
    said, errors = launcher.communicate(timeout=60)
    *workers, last = errors.splitlines()
    assert launcher.returncode == status and not said
    assert last.startswith(f"error: {line}")
    assert workers and set(workers) <= {f"error: of {rank}" for rank in ranks}


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_every_process(root, tmp_path, sign, status):
    """Also those that do not listen, when it comes again."""
    deaf = "[signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; os.write(1, b'%d\\n' % os.getpid())"
    launcher = start(root, tmp_path, "01", deaf)
    workers = [int(launcher.stdout.readline()) for _ in range(2)]
    deadline = time.monotonic() + 30
    while launcher.poll() is None and time.monotonic() < deadline:
        launcher.send_signal(sign)
        time.sleep(0.2)
    assert launcher.wait(1) == status
    what = "interrupted" if sign == signal.SIGINT else "terminated"
    *workers_said, said = launcher.communicate()[1].splitlines()
    assert said == f"{what}: --resume continues from what was kept"
    assert set(workers_said) == {"error: of 0", "error: of 1"}
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_processes_end_with_a_launcher_that_is_killed(root, tmp_path):
    """Within seconds, also those that compute, and the processes that they have started."""
    busy = (
        "from mmrazor_lite.cli import signals; signals.end_with_launcher(); child = os.fork(); "
        "child and os.write(1, b'%d\\n%d\\n' % (os.getpid(), child)); any(False for _ in iter(int, 1))"
    )
    launcher = start(root, tmp_path, "01", busy)
    workers = [int(launcher.stdout.readline()) for _ in range(4)]
    launcher.kill()
    deadline = time.monotonic() + 10
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, workers))
    errors = launcher.communicate()[1].splitlines()
    assert errors[-1] == (
        f"error: the launcher (process {launcher.pid}) is gone, this run ends: --resume continues where it was"
    )


def lives(process: int) -> bool:
    """Whether it is there, and not only waits for its parent to ask how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_port_that_is_taken(root, tmp_path):
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = str(server.getsockname()[1])
        launcher = start(root, tmp_path, "", "pass", port)
        errors = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == 2
    assert errors.splitlines()[-1].startswith(f"error: the processes cannot meet at 127.0.0.1:{port} (")


def test_more_processes_than_gpus_are_refused(monkeypatch):
    import torch

    from mmrazor_lite.cli.environment import check_processes
    from mmrazor_lite.errors import UserError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(2)
    with pytest.raises(UserError, match="3 processes on this machine, it has 2 GPUs"):
        check_processes(3)
