"""The flags of the official code of TF-NAS and AutoSlim_TF2 become commands that our parser and configs take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmrazor_lite.cli import main
from mmrazor_lite.cli.main import build_parser
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.recipes import original_autoslim, original_tfnas
from mmrazor_lite.recipes.original import Command, translate

ROOT = Path(__file__).resolve().parents[2]
LISTS = "--train_root T --val_root V --train_list t.txt --val_list v.txt"
# Commands as the two projects document them (README.md, example.sh), and what ours begins with.
DOCUMENTED = {
    "train_search --img_root T --train_list t.txt --val_list v.txt --lookup_path gpu.pkl --save S --print_freq 100 "
    "--workers 4 --epochs 90 --batch_size 32 --w_lr 0.025 --w_mom 0.9 --w_wd 1e-5 --a_lr 0.01 --a_wd 5e-4 "
    "--grad_clip 5.0 --T 5.0 --T_decay 0.96 --num_classes 100 --lambda_lat 0.1 --target_lat 15.0 "
    "--note TF-NAS-lam0.1-lat15.0-gpu": "python tools/train.py configs/nas/tfnas/tfnas_search_1xb32_in1k100.py",
    "parsing_model --model_path W/epoch_90.pth --save_path model.config --lookup_path gpu.pkl": "python "
    "tools/nas/parse_tfnas.py W/epoch_90.pth -o model.yaml --model-config model.config",
    f"train_eval {LISTS} --model_path W/epoch_90.pth --save S --print_freq 100 --workers 16 --epochs 250 "
    "--batch_size 512 --lr 0.2 --momentum 0.9 --weight_decay 1e-5 --grad_clip 5.0 --label_smooth 0.1 "
    "--num_classes 1000 --dropout_rate 0.2 --drop_connect_rate 0.2 --note n": "python tools/train.py configs/nas",
    f"train_eval {LISTS} --config_path model.config": "python tools/train.py configs/nas/tfnas/tfnas_subnet_",
    f"train_eval_amp {LISTS} --config_path model.config --opt_level O1": "python tools/train.py configs/nas/tfnas/",
    "test --val_root V --val_list v.txt --config_path model.config --weights w.pth": "python tools/test.py configs/nas",
    "test --val_root V --val_list v.txt --model_path model.config --weights w.pth": "python tools/test.py configs/nas",
    "train_w_slimming --arch Mobilev2 --slimmable True --weight_decay 4e-5": "python tools/recipes/autoslim_cifar10.py "
    "--arch mbv2",
    "train_w_slimming --arch WResnet-40-4 --slimmable True --weight_decay 5e-4": "python "
    "tools/recipes/autoslim_cifar10.py --arch wrn40_4",
    "train_w_slimming --arch Resnet-56 --slimmable True --weight_decay 5e-4": "python "
    "tools/recipes/autoslim_cifar10.py --arch resnet56",
    "train_w_slimming --arch Mobilev2": "python tools/train.py configs/pruning/autoslim/autoslim_mbv2_supernet_1xb128",
    "train_w_slimming --arch ResNet-56 --slimmable True --trained_slimmable s.pth --target_rate 0.3": (
        "python tools/search.py configs/pruning/autoslim/autoslim_resnet56_search_1xb128_cifar10.py s.pth"
    ),
    "test --arch WResNet-40-4 --trained_param t.pth --slimmable True": "python tools/test.py configs/pruning/autoslim/"
    "autoslim_wrn40_4_subnet_1xb128_cifar10.py t.pth",
}


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("CUDA_VISIBLE_DEVICES", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def accepted(command: Command) -> object:
    """The config of a command with its options, which our parser and schema take."""
    words = [command.name, *command.arguments]
    if command.name == "launch":
        words = words[words.index("train") :]
    args = build_parser().parse_args(words)
    config = getattr(args, "config", None)
    return load_config(config, args.cfg_options, amp=getattr(args, "amp", False)) if config else args


@pytest.mark.parametrize("typed", DOCUMENTED)
def test_documented_commands(registered, capsys, typed):
    script, *flags = shlex.split(typed)
    assert main(["original", script, *flags, "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith(DOCUMENTED[typed])
    assert all(line.startswith("note: ") for line in printed[:-1])
    command = translate(script, flags)
    assert shlex.split(printed[-1])[2:] == command.arguments
    assert (ROOT / command.script).is_file()
    if command.script:
        assert f'["{command.name}"' in (ROOT / command.script).read_text()
    accepted(command)


def test_every_script_is_there_and_runs_from_any_folder(tmp_path):
    scripts = {*original_tfnas.SCRIPTS, *original_autoslim.SCRIPTS, "test"}
    assert scripts == {path.stem for path in (ROOT / "tools" / "compat").glob("*.py")}
    words = ["train_w_slimming.py", "--arch", "Mobilev2", "--slimmable", "True", "--dry-run"]
    script, *rest = words
    command = [sys.executable, str(ROOT / "tools/compat" / script), *rest]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "tools/recipes/autoslim_cifar10.py --arch mbv2" in done.stdout


def value_at(cfg, key: str):
    for part in key.split("."):
        cfg = cfg[int(part)] if part.isdigit() else cfg[part]
    return cfg


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (original_tfnas.SEARCH, original_tfnas.SEARCH_FLAGS),
        (original_tfnas.SUBNET, original_tfnas.TRAIN_FLAGS),
    ],
)
def test_defaults_of_theirs_are_those_of_our_configs(registered, config, flags):
    """So that a flag that is not given needs no option."""
    cfg = load_config(ROOT / config)
    for name, (default, keys) in flags.items():
        for key in keys:
            assert value_at(cfg, key) == default, (name, key)


TYPED = {
    original_tfnas.SEARCH: ("train_search --img_root T", original_tfnas.SEARCH_FLAGS),
    original_tfnas.SUBNET: (f"train_eval {LISTS} --config_path m.config", original_tfnas.TRAIN_FLAGS),
}


@pytest.mark.parametrize("config", TYPED)
def test_every_flag_reaches_every_one_of_its_keys(registered, config):
    typed, flags = TYPED[config]
    script, *words = shlex.split(typed)
    for name, (default, keys) in flags.items():
        other = default * 2
        cfg = accepted(translate(script, [*words, f"--{name}", str(other)]))
        for key in keys:
            assert value_at(cfg, key) == other != default, (name, key)


def test_images_of_a_search(registered):
    cfg = accepted(translate("train_search", shlex.split("--img_root T --train_list t.txt --val_list v.txt --seed 7")))
    for loader, file in ((cfg.train_dataloader, "t.txt"), (cfg.train_cfg.arch_dataloader, "v.txt")):
        dataset = loader.dataset
        assert (dataset.data_root, dataset.data_prefix, dataset.ann_file) == (str(ROOT / "T"), "", str(ROOT / file))
    flags = "--img_root T --seed 7 --save S --note n --a_beta1 0.4 --epochs 30"
    command = translate("train_search", shlex.split(flags))
    assert command.words[1:] == ["--work-dir", "S/n", "--seed", "7"]
    cfg = accepted(command)
    assert tuple(cfg.optim_wrapper.arch_parameters.optimizer.betas) == (0.4, 0.999) and cfg.train_cfg.val_begin == 26


def test_options_of_the_retraining(registered, monkeypatch):
    flags = f"{LISTS} --config_path m.config --opt_level O2 --loss_scale 128.0 --sync_bn --channels_last 1"
    command = translate("train_eval_amp", shlex.split(f"{flags} --snapshot S/epoch_9.pth --batch_size 128"))
    assert command.words[-3:] == ["--resume", "S/epoch_9.pth", "--amp"]
    cfg = accepted(command)
    assert cfg.optim_wrapper.loss_scale == 128.0 and cfg.channels_last is True
    assert cfg.model.cfg.backbone.norm_cfg.type == "SyncBN"
    assert cfg.train_dataloader.batch_size == 128 and cfg.param_scheduler[0].start_factor == 1.0
    assert cfg.val_dataloader.dataset.ann_file == cfg.test_dataloader.dataset.ann_file == str(ROOT / "v.txt")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    command = translate("train_eval", shlex.split(f"{LISTS} --config_path m.config"))
    assert str(command).startswith("mmrazor-lite launch --nproc 2 train configs/nas/tfnas/tfnas_subnet_2xb512_in1k.py ")
    cfg = accepted(command)
    assert cfg.train_dataloader.batch_size == 256 and cfg.train_dataloader.num_workers == 8
    monkeypatch.setenv("WORLD_SIZE", "4")  # started by torchrun, as the authors' script
    command = translate("train_eval_amp", shlex.split(f"{LISTS} --config_path m.config --local_rank 1"))
    assert command.words[-2:] == ["--launcher", "pytorch"] and accepted(command).train_dataloader.batch_size == 128


def test_options_of_the_baseline(registered):
    flags = "--arch ResNet-56 --train_epoch 100 --decay_points .5 80 --decay_rate .1 --learning_rate .05"
    command = translate(
        "train_w_slimming", shlex.split(f"{flags} --batch_size 64 --weight_decay 1e-4 --gpu_id 2 --train_path P")
    )
    assert command.environment == {"CUDA_VISIBLE_DEVICES": "2"} and command.words[1:] == ["--work-dir", "P"]
    cfg = accepted(command)
    assert cfg.param_scheduler == {"type": "MultiStepLR", "milestones": [50, 80], "gamma": 0.1, "by_epoch": True}
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (0.05, 1e-4)
    assert cfg.train_dataloader.batch_size == 64 and cfg.train_dataloader.dataset.part == "all"
    assert cfg.model.channel_cfg == 1.0 and cfg.train_cfg.max_epochs == 100


def test_options_of_the_search_and_the_recipe(registered):
    flags = "--arch Mobilev2 --slimmable True --trained_slimmable s.pth --target_rate 0.3 --search_step 0.25"
    cfg = accepted(translate("train_w_slimming", shlex.split(flags)))
    assert cfg.search_cfg.target_flops == ["30%"]
    assert cfg.model.mutator.candidate_choices == [0.25, 0.5, 0.75, 1.0]
    args = accepted(translate("train_w_slimming", shlex.split("--slimmable True --train_epoch 25 --target_rate .45")))
    assert (args.arch, args.epochs, args.supernet_epochs, args.target, args.seeds) == ("mbv2", 25, 8, "45%", 1)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("train_w_slimming --arch VGG", "carried are Mobilev2, WResNet-40-4 and ResNet-56"),
        ("train_w_slimming --dataset cifar100", "--dataset cifar100: carried is cifar10"),
        ("train_w_slimming --slimmable True --search_step 0.1", "--search_step: the recipe has 0.2"),
        ("train_w_slimming --slimmable True --decay_points .5", "--decay_points: the recipe has"),
        ("train_w_slimming --slimmable True --weight_decay 1", "--weight_decay 1.0: the recipe has 4e-05"),
        ("train_w_slimming --slimmable True --target_rate 1.5", "--target_rate 1.5: a share"),
        ("train_w_slimming --slimmable True --trained_slimmable s.mat", "files of theirs .*mat.* are not read"),
        ("test --arch Mobilev2 --trained_param t.mat", "are not read"),
        ("parsing_model --model_path searched_model_90.pth.tar", "checkpoints of the authors .* are not read"),
        (f"train_eval {LISTS}", "--model_path or --config_path: give"),
        (f"train_eval {LISTS} --config_path c --num_classes 10", "--num_classes 10: the config is of ImageNet's 1000"),
        (f"train_eval_amp {LISTS} --config_path c --opt_level O3", "--opt_level O3: pure float16"),
        (f"train_eval {LISTS} --config_path c --print_freq 0.5", "--print_freq 0.5"),
    ],
)
def test_what_has_nothing_here_is_refused(typed, message, capsys):
    assert main(["original", *shlex.split(typed), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and len(error.strip().splitlines()) == 1


def test_an_unknown_flag_or_a_missing_one(capsys):
    for typed in ("train_search --img_root T --target_latency 3", "train_search", "train_w_slimming --slimmable yes"):
        with pytest.raises(SystemExit, match="2"):
            main(["original", *shlex.split(typed)])
        assert "error: " in capsys.readouterr().err


def test_it_runs_what_it_prints(tmp_path, capsys):
    """Up to the first file that is missing."""
    weights = tmp_path / "w.pth"
    assert main(["original", "test", "--arch", "Mobilev2", "--trained_param", str(weights)]) == 2
    said = capsys.readouterr()
    assert f"autoslim_mbv2_supernet_1xb128_cifar10.py {weights}" in said.out
    assert f"checkpoint '{weights}' not found" in said.err


def test_flags_that_take_text_for_true_are_read_as_they_say():
    """``type=bool`` of theirs takes 'False' for true."""
    assert translate("train_w_slimming", ["--slimmable", "False"]).name == "train"
    with pytest.raises(UserError, match="no width below 1"):
        translate("train_w_slimming", shlex.split("--slimmable True --trained_slimmable s.pth --search_step 2"))
