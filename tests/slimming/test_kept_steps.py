"""What an interrupted run of ``slim`` has left is read as it was written, or refused in one line that names it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from slim_nets import Residual

from mmrazor_lite.errors import UserError
from mmrazor_lite.jsonio import sealed
from mmrazor_lite.slimming import slim
from mmrazor_lite.slimming.kept_steps import Steps, digest_of, lines, numbers


def run(folder, resume=False, **options):
    torch.manual_seed(0)
    data = torch.randn(16, 3, 8, 8), torch.arange(16) % 5
    torch.manual_seed(0)
    return slim(Residual(8).eval(), data, "60%", images=16, work_dir=folder, resume=resume, latency=False, **options)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder).subnet


def _put(value, *place):
    def damage(state):
        for key in place[:-1]:
            state = state[key]
        state[place[-1]] = value(state[place[-1]]) if callable(value) else value

    return damage


DAMAGED = {
    "no identity": (_put(-1, "identity"), "it does not say of what its steps are"),
    "a step that is none": (_put("x", "steps", "rankings"), "step 'rankings' is damaged"),
    "a unit twice": (_put(lambda units: [units[1], *units[1:]], "steps", "rankings", "order", "stem.0"), "'rankings'"),
    "a unit less": (_put(lambda units: units[1:], "steps", "rankings", "order", "stem.0"), "'rankings'"),
    "no numbers": (_put({"a": 1}, "steps", "rankings", "curves", "stem.0"), "'rankings'"),
    "no text": (_put([3], "steps", "rankings", "unranked"), "'rankings'"),
    "no width": (_put({}, "steps", "subnet", "subnet", "stem.0"), "'subnet'"),
    "a width that there is not": (_put(10**6, "steps", "subnet", "subnet", "stem.0"), "'subnet'"),
    "another group": (_put({"other.0": 3}, "steps", "subnet", "subnet"), "'subnet'"),
    "a repair of no name": (_put("magic", "steps", "repair", "name"), "'repair'"),
    "no seconds": (_put("x", "steps", "repair", "tried", 0, "seconds"), "'repair'"),
    "another quality": (_put({"a": 1}, "steps", "repair", "tried", 1, "held_out"), "'repair'"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_state_of_wrong_parts_with_a_checksum_that_fits(kept, tmp_path, name):
    damage, problem = DAMAGED[name]
    folder = shutil.copytree(kept[0], tmp_path / "run")
    state = json.loads((folder / "slim_state.json").read_text())
    del state["crc"]
    damage(state)
    (folder / "slim_state.json").write_text(sealed(state))
    with pytest.raises(UserError, match=problem) as caught:
        run(folder, resume=True)
    text = str(caught.value)
    assert text.startswith(str(folder / "slim_state.json")) and text.endswith("start anew without resume")
    assert "\n" not in text and len(text) < 400


def test_what_is_whole_is_gone_on_with(kept, tmp_path):
    folder = shutil.copytree(kept[0], tmp_path / "run")
    assert run(folder, resume=True).subnet == kept[1]


def test_a_resumed_run_has_the_loss_that_it_began_with(kept, tmp_path):
    folder = shutil.copytree(kept[0], tmp_path / "run")
    with pytest.raises(UserError, match=r"cannot resume the slimming: loss was None, now it is 'cross_entropy:\w+'"):
        run(folder, resume=True, loss=torch.nn.functional.cross_entropy)


def test_functions_of_one_name_are_told_apart(tmp_path):
    def by_index(network, images, loss):
        return {name: range(units) for name, units in network.unit_counts.items()}

    def loss(smoothing):
        return partial(torch.nn.functional.cross_entropy, label_smoothing=smoothing)

    options = {"importance": lambda *args: by_index(*args), "loss": loss(0.1)}
    subnet = run(tmp_path, **options).subnet
    assert run(tmp_path, resume=True, **{**options, "loss": loss(0.1)}).subnet == subnet
    with pytest.raises(UserError, match="loss was 'partial.*0.1.*', now it is 'partial.*0.2"):
        run(tmp_path, resume=True, **{**options, "loss": loss(0.2)})
    with pytest.raises(UserError, match="cannot resume the slimming: importance was '.*<lambda>"):
        run(tmp_path, resume=True, **{**options, "importance": lambda *args: by_index(*args) | {}})


def test_labels_that_are_no_tensors_decide_too():
    image = torch.ones(1)
    leaves = ([image, 0, 1], [image, 1, 0], [image, 0.0, 1], [image, True, 1], [image, "0", 1], [image, np.int64(0), 1])
    assert len({digest_of(found) for found in leaves}) == len(leaves)
    assert digest_of([image, None]) == digest_of([image]) != digest_of([image, 0])


def test_a_folder_of_another_process_is_refused(root, tmp_path):
    words = "import sys; from mmrazor_lite.folder_lock import hold; hold(sys.argv[1], 'it'); print('held', flush=True)"
    line = [sys.executable, "-c", f"{words}; input()", tmp_path]
    with subprocess.Popen(line, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"is in use by process {other.pid} "):
            run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]
    run(tmp_path)
    assert "slim_state.json" in (names := {path.name for path in tmp_path.iterdir()}) and "run.lock" not in names


def test_an_error_of_a_step_that_runs_is_its_own(tmp_path):
    def read(found):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        Steps(tmp_path)("step", lambda: 1, read)


def test_numbers_and_lines():
    assert numbers([1, 2.5, None], 3).tolist() == [1, 2.5, float("inf")]
    assert lines(["a"]) == ("a",)
    for wrong in ([1], [1, 2, "x"], [1, 2, True], "abc", {"a": 1, "b": 2, "c": 3}, None):
        with pytest.raises(ValueError, match="expected"):
            numbers(wrong, 3)
    for wrong in ("a", [1], None):
        with pytest.raises(ValueError, match="expected"):
            lines(wrong)
