"""``mmrazor-lite launch``: what it makes of its flags, and processes of two launchers that meet."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time

import pytest
import torch
from robustness.processes import free_port

from mmrazor_lite.cli import launch, main
from mmrazor_lite.cli.main import build_parser
from mmrazor_lite.cli.torchrun import Machines

TRAIN = "train c.py --work-dir W"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("NNODES", "NODE_RANK", "MASTER_ADDR", "PORT", "CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)


def parsed(flags: str):
    return build_parser().parse_args(["launch", *flags.split(), *TRAIN.split()])


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ("--nproc 8", {"PORT": "1234"}, Machines(8, port=1234)),
        ("--nproc 8 --rdzv host:7", {}, Machines(8, host="host", port=7)),
        ("--nproc 4 --nnodes 2 --rdzv host:7", {}, Machines(4, 2, None, "host", 7)),
        ("--nproc 4 --nnodes 2 --rdzv [fe80::1]:7", {}, Machines(4, 2, None, "fe80::1", 7)),
        ("--nproc 4 --nnodes 2 --rdzv host:7 --node-rank 1", {}, Machines(4, 2, 1, "host", 7)),
        ("--nproc 3", {"NNODES": "2", "PORT": "1234"}, Machines(3, 2, 0, port=1234)),
        ("--nproc 3", {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "a"}, Machines(3, 2, 1, "a", 29500)),
    ],
)
def test_machines(monkeypatch, flags, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    args = parsed(flags)
    assert args.words == TRAIN.split()
    assert launch.machines_of(args) == expected


def test_two_runs_on_one_machine_take_two_ports():
    first, second = (launch.machines_of(parsed("--nproc 2")) for _ in range(2))
    assert first.port != second.port and first.host == "127.0.0.1"


def test_options_of_torchrun():
    assert set(Machines(3, 2, 1, "a", 9).options) == {
        "--nnodes=2", "--nproc_per_node=3", "--node_rank=1", "--master_addr=a", "--master_port=9",
    }  # fmt: skip
    assert set(Machines(3, 2, None, "fe80::1", 9).options) == {
        "--nnodes=2", "--nproc_per_node=3", "--rdzv_backend=c10d", "--rdzv_endpoint=[fe80::1]:9",
        "--rdzv_id=mmrazor_lite",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "environment", "line"),
    [
        ("--nproc none", {}, "--nproc is 'none': give a whole number of 1 or more"),
        ("--nproc 0", {}, "--nproc is '0': give a whole number of 1 or more"),
        ("--nproc 1 --nnodes 0", {}, "--nnodes is '0': give a whole number of 1 or more"),
        ("--nproc 1 --nnodes 2", {}, "--nnodes: several machines need --rdzv HOST:PORT"),
        ("--nproc 1 --nnodes 2 --rdzv host", {}, "--rdzv is 'host': give HOST:PORT"),
        ("--nproc 1 --nnodes 2 --rdzv :1", {}, "--rdzv is ':1': give HOST:PORT"),
        ("--nproc 1 --nnodes 2 --rdzv host:0", {}, "the port of --rdzv is '0': give a whole number from 1 to 65535"),
        ("--nproc 1 --nnodes 2 --rdzv h:1 --node-rank 2", {}, "--node-rank is '2': give a whole number from 0 to 1"),
        ("--nproc 1", {"PORT": "abc"}, "PORT is 'abc': give a whole number from 1 to 65535"),
        ("--nproc 1", {"PORT": "65536"}, "PORT is '65536': give a whole number from 1 to 65535"),
        ("--nproc 1", {"NNODES": "0"}, "NNODES is '0': give a whole number of 1 or more"),
        ("--nproc 1", {"NNODES": "2", "NODE_RANK": "2"}, "NODE_RANK is '2': give a whole number from 0 to 1"),
        ("--nproc 1", {"NNODES": "2", "NODE_RANK": "-1"}, "NODE_RANK is '-1': give a whole number from 0 to 1"),
        ("--slurm p", {}, "--slurm: give --nproc N"),
        ("--slurm p --nproc 2 --rdzv h:1", {}, "--slurm: srun knows where the machines meet"),
        ("--slurm p --nproc 2 --cpus-per-task x", {}, "--cpus-per-task is 'x': give a whole number"),
    ],
)
def test_flags_that_fit_nothing(fails, monkeypatch, flags, environment, line):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert line in fails("launch", *flags.split(), *TRAIN.split())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "launch: give the command to run"),
        ("c.py --work-dir W", "launch: 'c.py' is no command"),
        ("analyze c.py", "launch: 'analyze' runs in one process"),
        ("train c.py --launcher pytorch", "launch: leave out --launcher pytorch"),
    ],
)
def test_commands_that_are_not_launched(fails, words, line):
    assert line in fails("launch", "--nproc", "2", *words.split())


def test_words_of_the_command_are_read_before_it_is_started(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["launch", "--nproc", "2", "train", "c.py", "--no-such-flag"])
    assert capsys.readouterr().err.startswith("error: there is no option --no-such-flag")


def test_the_line_of_slurm(fails, tmp_path, monkeypatch):
    line = launch.slurm_words(parsed("--slurm part --nproc 4 --nnodes 2 --srun-args=--exclusive"), ["train", "c.py"])
    assert line[:6] == ["srun", "-p", "part", "--job-name=mmrazor_lite", "--gres=gpu:4", "--ntasks=8"]
    assert {"--ntasks-per-node=4", "--cpus-per-task=5", "--kill-on-bad-exit=1", "--exclusive"} <= set(line)
    assert line[-6:] == [sys.executable, "-u", launch.PROGRAM, "train", "c.py", *["--launcher", "slurm"]][-6:]
    for named in ("--gres=none", "--gpus-per-task=1"):
        line = launch.slurm_words(parsed(f"--slurm part --nproc 4 --srun-args={named}"), ["train", "c.py"])
        assert [word for word in line if word.startswith(("--gres", "--gpus"))] == [named]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no srun on PATH" in fails("launch", "--slurm", "part", "--nproc", "1", *TRAIN.split())
    (tmp_path / "srun").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "srun").chmod(0o755)
    assert main(["launch", "--slurm", "part", "--nproc", "1", *TRAIN.split()]) == 7


@pytest.mark.parametrize("launcher, variable", [("slurm", "SLURM_PROCID"), ("mpi", "OMPI_COMM_WORLD_RANK")])
def test_of_tasks_that_share_a_terminal_the_first_tells_an_error(fails, monkeypatch, capsys, launcher, variable):
    def ended(seconds):
        raise KeyboardInterrupt

    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for rank in (0, 1):
        monkeypatch.setenv(variable, str(rank))
        assert "'none.py' not found" in fails("train", "none.py", "--launcher", launcher)
        assert waited == [15] * rank
    monkeypatch.setattr(time, "sleep", ended)
    assert main(["train", "none.py", "--launcher", launcher]) == 2
    assert capsys.readouterr() == ("", "")


MEET = """
import sys, torch
torch.distributed.init_process_group("gloo")
total = torch.tensor([torch.distributed.get_rank() + 1])
torch.distributed.all_reduce(total)
print("sum", int(total), "of", torch.distributed.get_world_size(), flush=True)
if sys.argv[1:] == ["stay"]:
    import time
    time.sleep(20)
torch.distributed.destroy_process_group()
"""
NODE = """
import sys
from mmrazor_lite.cli.torchrun import Machines, start

port, rank, script = int(sys.argv[1]), None if sys.argv[2] == "-" else int(sys.argv[2]), sys.argv[3:]
sys.exit(start(Machines(1, 2, rank, "127.0.0.1", port), script))
"""


def until_open(port):
    for _ in range(600):
        with socket.socket() as end:
            if end.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nobody listens at {port}")


@pytest.fixture
def nodes(root, tmp_path):
    """Start one launcher for each number of a machine, ``-`` for none, with words of its script."""
    script = tmp_path / "meet.py"
    script.write_text(MEET)
    environment = {**os.environ, "PYTHONPATH": str(root), "GLOO_SOCKET_IFNAME": "lo"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = []

    def start(ranks, *words):
        port = free_port()
        for rank in ranks:
            line = [sys.executable, "-c", NODE, str(port), rank, script, *words]
            started.append(subprocess.Popen(line, env=environment, **pipes))
            until_open(port)  # the first one holds the port, as the first machine does
        return started

    yield start
    for node in started:
        node.kill()


@pytest.mark.wide
@pytest.mark.parametrize("ranks", ["--", "01"])
def test_machines_meet_with_and_without_numbers(nodes, ranks):
    ended = [(*node.communicate(timeout=120), node.returncode) for node in nodes(ranks)]
    assert [(said.split(), status) for said, _, status in ended] == 2 * [("sum 3 of 2".split(), 0)], ended


@pytest.mark.wide
def test_a_launcher_whose_other_is_gone_says_so(nodes):
    first, second = nodes("--", "stay")
    assert second.stdout.readline() == "sum 3 of 2\n"
    first.kill()
    _, errors = second.communicate(timeout=50)
    assert re.match(r"error: the launcher at 127.0.0.1:\d+ is gone, .* --resume$", errors.splitlines()[-1]), errors
    assert second.returncode == 1


def test_a_process_leaves_its_group(fails, monkeypatch):
    """Whose threads could else abort a run that has ended well."""
    values = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    torch.distributed.init_process_group("gloo")
    assert "'none.py' not found" in fails("print-config", "none.py")
    assert not torch.distributed.is_initialized()


def test_a_command_is_launched_from_any_folder(tmp_path):
    """By the path of the program, with nothing installed; each process says the same, the launcher one line below."""
    words = [sys.executable, launch.PROGRAM, "launch", "--nproc", "2", "train", "none.py"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    *processes, last = done.stderr.splitlines()
    assert done.returncode == 2
    assert last.startswith("error: process 0 has ended with exit code 2, its error is above")
    assert processes and set(processes) == {"error: config file 'none.py' not found"}
