"""The commands of the manuals of MMRazor 0.x and 1.x, as people type them: each works or says what to type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmrazor_lite import counterparts, shipped
from mmrazor_lite.cli import gone, main, old_flags
from mmrazor_lite.config import overrides
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError

CARRIED = "carried are AutoSlim, SPOS, OFA/BigNAS, TF-NAS; see docs/migration.md"
AUTOSLIM, SPOS = "configs/pruning/autoslim/autoslim_mbv2", "configs/nas/spos/spos"


def command(line: str) -> list[str]:
    """The words of a command; a script of ``tools/`` becomes its subcommand."""
    script, *words = line.split()
    name = script.rpartition("/")[2].removesuffix(".py").removesuffix("_mmcls")
    return [{"get_flops": "flops", "print_config": "print-config", "split_checkpoint": "split"}.get(name, name), *words]


# scripts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", gone.ANSWERS)
def test_a_script_that_has_nothing_to_do_says_what_to_type(root, script):
    assert f'answer("{script}")' in (root / "tools" / script).read_text()
    assert len((root / "tools" / script).read_text().splitlines()) == 5


def test_flops_are_counted_under_either_name(root):
    scripts = [(root / "tools" / folder / "get_flops.py").read_text() for folder in ("misc", "pruning")]
    assert scripts[0] == scripts[1]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("model_converters/convert_kd_ckpt_to_student.py", "not needed: of a file with student and teacher"),
        ("pruning/get_channel_units.py", "type python tools/analyze.py CONFIG"),
        ("mmdet/search_mmdet.py", f"not carried: object detection (mmdet); {CARRIED}"),
        ("ptq.py", f"not carried: quantization; {CARRIED}"),
    ],
)
def test_the_answer_is_one_line_from_any_folder(root, tmp_path, script, said):
    done = subprocess.run(
        [sys.executable, root / "tools" / script, "a", "--b"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f"error: tools/{script}: {said}") and len(done.stderr.splitlines()) == 1


@pytest.fixture
def echo(tmp_path):
    """An environment in which srun and Python say what they were given."""
    for name in ("srun", "python"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHON": str(tmp_path / "python"), "GPUS": "32", "PORT": "29500"}


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("dist_train.sh c.py 4 --work-dir W", "--nproc 4 train c.py --work-dir W"),
        ("dist_test.sh c.py none 1 --cfg-options a=b", "--nproc 1 test c.py none --cfg-options a=b"),
        ("mmcls/dist_train.sh c.py 4", "--nproc 4 train c.py"),
        ("mmcls/dist_search.sh c.py k.pth 8 --seed 1", "--nproc 8 search c.py k.pth --seed 1"),
        ("mmcls/dist_test.sh c.py k.pth 8", "--nproc 8 test c.py k.pth"),
        ("slurm_train.sh P J c.py W --seed 1", "--slurm P J 32 train c.py --work-dir W --seed 1"),
        ("slurm_train.sh P J c.py --work-dir W", "--slurm P J 32 train c.py --work-dir W"),
        ("slurm_test.sh P J c.py k.pth", "--slurm P J 32 test c.py k.pth"),
        ("mmcls/slurm_train_mmcls.sh P J c.py W", "--slurm P J 32 train c.py --work-dir W"),
        ("mmcls/slurm_search_mmcls.sh P J c.py k W", "--slurm P J 32 search c.py k --work-dir W"),
        ("mmcls/slurm_test_mmcls.sh P J c.py k --out o", "--slurm P J 32 test c.py k --out o"),
    ],
)
def test_shell_scripts_in_either_shell(root, tmp_path, shell, line, typed):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    script, *words = line.split()
    done = subprocess.run(
        [shell, root / "tools" / script, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": str(python), "GPUS": "32"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    slurm = "J --nproc 8 --nnodes 4 --srun-args=--ntasks=32 "
    typed = typed.replace("--slurm P J 32", f"--slurm P --job-name {slurm}")
    assert done.stdout.strip().endswith(f"__main__.py launch {typed}")


def test_flags_of_what_is_launched(capsys, monkeypatch):
    assert main(["launch", "--nproc", "2", "train", "c.py", "--gpu-ids", "0", "1"]) == 2
    assert "error: --gpu-ids: " in capsys.readouterr().err


# flags ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("train --resume-from a.pth c.py", "train c.py --resume a.pth"),
        ("train c.py --resume-from=a.pth", "train c.py --resume a.pth"),
        ("train --auto-resume c.py", "train c.py --resume"),
        ("train c.py 8 --work_dir W", "train c.py 8 --work-dir W"),
        (
            "train --no-validate c.py --cfg-options a=1",
            "train c.py --cfg-options a=1 --cfg-options val_dataloader=None val_cfg=None val_evaluator=None",
        ),
        ("flops c.py -H 160 -W 200", "flops c.py --input-shape 160 200"),
        ("flops -H 160 c.py", "flops c.py --input-shape 160 224"),
        ("print-config c.py --options a=1 b=2", "print-config c.py --cfg-options a=1 b=2"),
        ("train c.py --cfg-options a=--resume-from", "train c.py --cfg-options a=--resume-from"),
        ("slim --device cpu --model m", "slim --device cpu --model m"),
        ("autoslim-cifar10 --device cpu", "autoslim-cifar10 --device cpu"),
    ],
)
def test_flags_that_work(line, typed):
    assert old_flags.ours(line.split()) == typed.split()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train c.py --gpu-id 1", "write CUDA_VISIBLE_DEVICES=1 in front of the command"),
        ("train --gpu-ids 0 2 -- c.py", "CUDA_VISIBLE_DEVICES=0,2 .* tools/dist_train.sh CONFIG ... 2"),
        ("train c.py --gpus 8", "tools/dist_train.sh CONFIG ... 8"),
        ("test c.py k.pth --gpu-id=3", "CUDA_VISIBLE_DEVICES=3"),
        ("search c.py k.pth --device cpu", "CUDA_VISIBLE_DEVICES= in front"),
        ("search c.py k.pth --device cuda", "leave it out: a GPU is used"),
        ("train c.py --diff_seed", "leave it out"),
        ("search c.py k.pth --resume-from search_epoch_3.pkl", "give the same --work-dir and --resume"),
        ("test c.py k.pth --show-dir D", "VisualizationHook"),
        ("test c.py k.pth --metric-options topk=1", "test_evaluator.topk"),
        ("test c.py k.pth --eval accuracy", "--metrics NAME"),
        ("test c.py k.pth --tmpdir D --gpu_collect", "leave it out"),
        ("test c.py k.pth --out o.pkl", "--out o.json"),
        ("flops c.py --size-divisor 32", "leave it out"),
        ("train c.py --local_rank=3", "LOCAL_RANK of the environment, which is not set"),
        ("train c.py W --cfg-options dist_params.port=29501", "write PORT=29501 in front of the command"),
        ("train c.py --resume-from", "expected one value"),
    ],
)
def test_flags_that_are_answered(capsys, monkeypatch, line, said):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match=said):
        old_flags.ours(line.split())
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --") and len(error.splitlines()) == 1


def test_the_rank_of_an_old_launcher_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    for words in (["--local_rank=3"], ["--local-rank", "3"]):
        assert old_flags.ours(["train", *words, "c.py"]) == ["train", "c.py"]
    with pytest.raises(UserError, match="LOCAL_RANK of the environment, 3"):
        old_flags.ours(["train", "--local_rank=2", "c.py"])


def test_a_training_without_validation(root, tmp_path, capsys):
    config = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    short = [
        "train_dataloader.dataset.dataset.indices=64",
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=16",
        "param_scheduler.end=1",
    ]
    words = ["train", "--no-validate", config, "--work-dir", tmp_path, "--cfg-options", *short]
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert (tmp_path / "epoch_1.pth").is_file() and "Epoch(val)" not in capsys.readouterr().out


def test_what_manuals_call_the_subnet():
    typed = ["algorithm.mutable_cfg=a.yaml", "model._channel_cfg_paths=b.yaml", "algorithm.fix_subnet=c.yaml"]
    assert overrides.parse(typed[:2]) == {"model.fix_subnet": "a.yaml", "model.channel_cfg": "b.yaml"}
    assert overrides.parse(typed[2:]) == {"model.fix_subnet": "c.yaml"}
    assert overrides.parse(typed[:1], ours=False) == {"algorithm.mutable_cfg": "a.yaml"}


# paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("tools/train.py configs/nas/mmcls/spos/spos_shufflenet_supernet_8xb128_in1k.py",
         f"{SPOS}_supernet_shufflenetv2_8xb128_in1k.py"),
        ("tools/train.py configs/nas/mmcls/spos/spos_shufflenet_search_8xb128_in1k.py --cfg-options load_from=k.pth",
         f"{SPOS}_evolution_search_shufflenetv2_8xb2048_in1k.py"),
        ("tools/train.py configs/nas/mmcls/spos/spos_mobilenet_search_8xb128_in1k.py",
         f"{SPOS}_evolution_search_mobilenet_proxyless_gpu_flops465_8xb512_in1k.py"),
        ("tools/train.py configs/nas/mmcls/spos/spos_mobilenet_subnet_8xb128_in1k.py",
         f"{SPOS}_subnet_mobilenet_proxyless_gpu_8xb128_in1k.py"),
        ("tools/train.py configs/nas/autoslim/autoslim_mbv2_1.5x_supernet_8xb256_in1k.py --work-dir W",
         f"{AUTOSLIM}_supernet_8xb256_in1k.py"),
        ("tools/train.py ./configs/nas/mmcls/autoslim/autoslim_mbv2_1.5x_search_8xb256_in1k.py",
         f"{AUTOSLIM}_search_8xb1024_in1k.py"),
        ("tools/train.py configs/nas/autoslim/autoslim_mbv2_subnet_8xb256_in1k.py",
         f"{AUTOSLIM}_subnet_8xb256_in1k.py"),
        ("tools/test.py configs/pruning/mmcls/autoslim/autoslim_mbv2__1.5x_subnet_8xb256_in1k-530M.py none "
         "--metrics accuracy", f"{AUTOSLIM}_subnet_8xb256_in1k.py"),
        ("tools/pruning/get_flops.py configs/nas/mmcls/autoslim/autoslim_mbv2_1.5x_subnet_8xb256_in1k_flops-220M.py",
         f"{AUTOSLIM}_subnet_8xb256_in1k.py"),
        ("tools/misc/get_flops.py {root}/" f"{AUTOSLIM}_supernet_8xb256_in1k.py --subnet "
         "configs/nas/autoslim/AUTOSLIM_MBV2_530M_OFFICIAL.yaml",
         "configs/pruning/autoslim/AUTOSLIM_MBV2_530M_OFFICIAL.yaml"),
        ("tools/model_converters/split_checkpoint.py c.py k.pth --channel-cfgs "
         "configs/nas/autoslim/AUTOSLIM_MBV2_320M_OFFICIAL.yaml",
         "configs/pruning/autoslim/AUTOSLIM_MBV2_320M_OFFICIAL.yaml"),
    ],
)  # fmt: skip
def test_paths_of_mmrazor_are_told_ours(capsys, monkeypatch, root, tmp_path, line, ours):
    for folder, name in ((root, ours), (tmp_path, f"mmrazor_lite::{ours}")):
        monkeypatch.chdir(folder)
        assert main(command(line.format(root=root))) == 2
        assert f"not found (here it is '{name}')" in capsys.readouterr().err
    assert (root / ours).is_file()


def test_all_files_of_a_command_that_are_not_there_are_told_at_once(capsys, monkeypatch, tmp_path):
    """As the manuals have it, which name folders that MMRazor has no more."""
    monkeypatch.chdir(tmp_path)
    line = "tools/model_converters/split_checkpoint.py configs/nas/autoslim/autoslim_mbv2_subnet_8xb256_in1k.py my.pth "
    line += "--channel-cfgs " + " ".join(
        f"configs/nas/autoslim/AUTOSLIM_MBV2_{size}M_OFFICIAL.yaml" for size in (530, 220)
    )
    assert main(command(line)) == 2
    error = capsys.readouterr().err
    ours = "mmrazor_lite::configs/pruning/autoslim"
    names = (
        "autoslim_mbv2_subnet_8xb256_in1k.py",
        "AUTOSLIM_MBV2_530M_OFFICIAL.yaml",
        "AUTOSLIM_MBV2_220M_OFFICIAL.yaml",
    )
    assert all(f"not found (here it is '{ours}/{name}')" in error for name in names)
    assert "checkpoint 'my.pth' not found" in error and len(error.splitlines()) == 1
    for name in ("test", "search"):
        assert main([name, "configs/pruning/mmcls/dmcp/dmcp_resnet50_subnet_32xb64.py", "my.pth"]) == 2
        assert "not carried: DMCP; " in (error := capsys.readouterr().err) and "checkpoint 'my.pth' not found" in error


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("configs/nas/mmcls/dsnas/dsnas_supernet_8xb128_in1k.py", "DSNAS"),
        ("configs/pruning/mmseg/dcff/dcff_pointrend_resnet50_8xb2_cityscapes.py", "DCFF"),
        ("configs/distill/mmcls/dkd/dkd_logits_r34_r18_8xb32_in1k.py", "distillation from another network"),
        ("configs/nas/mmcls/bignas/attentive_mobilenet_search_8xb128_in1k.py", "the AttentiveNAS space of BigNAS"),
    ],
)
def test_paths_of_what_is_not_carried(capsys, monkeypatch, tmp_path, path, what):
    monkeypatch.chdir(tmp_path)
    assert main(["train", path]) == 2
    assert capsys.readouterr().err == f"error: config file '{path}' not found, and not carried: {what}; {CARRIED}\n"


def test_a_missing_file_of_any_other_name_is_just_not_found(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "mine.py"]) == 2
    assert capsys.readouterr().err == "error: config file 'mine.py' not found\n"


def test_every_counterpart_comes_with_the_package():
    for _, name in counterparts._NAMES:
        assert (shipped.CONFIGS / name).is_file(), name


ADDRESS = "https://download.openmmlab.com/mmrazor/v0.1"
PUBLISHED = {
    f"{ADDRESS}/pruning/x/autoslim_mbv2_subnet_8xb256_in1k_flops-0.53M_acc-74.23_20211222-e5208bbd_channel_cfg.yaml": (
        "AUTOSLIM_MBV2_530M_OFFICIAL.yaml"
    ),
    f"{ADDRESS}/autoslim/autoslim_mbv2_subnet_8xb256_in1k_flops-220M_acc-71.4_20220715-9c288f3b_subnet_cfg.yaml": (
        "AUTOSLIM_MBV2_220M_OFFICIAL.yaml"
    ),
    f"{ADDRESS}/x/spos_shufflenetv2_subnet_8xb128_in1k_flops_0.33M_acc_73.87_20211222-454627be_mutable_cfg.yaml": (
        "SPOS_SUBNET.yaml"
    ),
    f"{ADDRESS}/nas/spos/x/spos_angelnas_flops_0.49G_acc_75.98_20220307-54f4698f_mutable_cfg.yaml": (
        "SPOS_MOBILENET_490M_FROM_ANGELNAS.yaml"
    ),
}


@pytest.mark.parametrize("address", PUBLISHED)
def test_a_published_subnet_is_our_copy_of_it(address):
    found = counterparts.published(address)
    assert Path(found).is_file() and Path(found).name == PUBLISHED[address]
    assert counterparts.published(address.replace("openmmlab", "elsewhere")) is None
    assert counterparts.published(f"{address}.pth") is None


def test_addresses_in_a_config_are_our_copies(root):
    config = root / f"{AUTOSLIM}_subnet_8xb256_in1k.py"
    first, second = list(PUBLISHED)[:2]
    cfg = load_config(config, [f"model.channel_cfg={first},{second}"])
    assert [Path(path).name for path in cfg.model.channel_cfg] == list(PUBLISHED.values())[:2]


# what overrides must not do ------------------------------------------------------------------------------------


def test_overrides_import_no_package_of_the_current_folder(monkeypatch, tmp_path, root):
    """A checkout of MMRazor's, where its users type, has folders called as the packages that its configs name."""
    config = tmp_path / "config.py"
    base = str(root / "configs/pruning/autoslim/autoslim_supernet_digits.py")
    loader = "dict(_delete_=True, batch_size=2, sampler=dict(type='DefaultSampler'), dataset=dict("
    loader += "type='mmcls.ImageNet', _scope_='mmcls', data_root='d', pipeline=[dict(type='mmcls.PackClsInputs')]))"
    config.write_text(f"_base_ = {base!r}\nmodel = dict(type='mmrazor.AutoSlim')\nval_dataloader = {loader}\n")
    for name in ("mmcls", "mmrazor", "data", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    options = ["val_dataloader.dataset.data_root=e", "val_dataloader.dataset.split=val", "model.num_random_samples=1"]
    cfg = load_config(config, [*options, "val_dataloader.dataset.pipeline.0.type=mmcls.PackClsInputs"])
    assert cfg.val_dataloader.dataset.data_root == "e" and cfg.model.num_random_samples == 1
    for name in ("mmcls", "mmrazor", "data"):
        assert name not in sys.modules
    with pytest.raises(UserError, match="PackInput"):
        load_config(config, ["val_dataloader.dataset.pipeline.0.type=mmcls.PackClsInput"])
    with pytest.raises(UserError, match="not carried: ConfigurableDistill|not registered"):
        load_config(config, ["model.distiller.type=mmrazor.SelfDistil"])
