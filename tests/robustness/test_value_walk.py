"""Nothing accepted is ignored: absurd values of every documented key are refused in one line, or change the run."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path

import pytest
from robustness.documented import is_known, options_of
from robustness.test_bad_input import DATA, TINY
from robustness.value_walk import ABSURD, is_default, keys_of, shown

from mmrazor_lite.cli import main
from mmrazor_lite.config.files import read
from mmrazor_lite.config.load import completed, load_config
from mmrazor_lite.errors import UserError, one_line

LONGEST = 600
CONFIGS = (
    "pruning/autoslim/autoslim_search_digits.py",
    "pruning/autoslim/us_digits.py",
    "nas/spos/spos_evolution_search_digits.py",
    "nas/mmcls/onceforall/ofa_kernel_digits.py",
    "nas/tfnas/tfnas_search_digits.py",
    "nas/spos/spos_subnet_digits.py",
    "pruning/autoslim/autoslim_wrn40_4_subnet_1xb128_cifar10.py",
    "pruning/autoslim/autoslim_mbv2_supernet_1xb128_cifar10.py",
)
# Keys that the line need not name: it names the section, as the value is no section any more.
SECTIONS = re.compile(r".*\.\d+|.*\btype")
# What a run of seconds on one CPU process cannot show, or not within seconds, with the reason.
UNSEEN = {
    r".*dataloader\.(num_workers|pin_memory|pin_memory_device|persistent_workers|prefetch_factor)": "how, not what",
    r".*dataloader\.(disable_subprocess_warning|timeout|multiprocessing_context|worker_init_fn)": "how, not what",
    r"(model_wrapper_cfg|find_unused_parameters|env_cfg|launcher).*": "of several processes or of the machine",
    r"(test|val)_.*|test_(cfg|dataloader|evaluator).*": "of another step",
    r"search_cfg.*": "of another step",
    r"train_cfg\.(max_epochs|max_iters)": "runs as long as asked",
    r"work_dir": "--work-dir is given",
    r"vis_backends": "config files copy it into visualizer",
    r"default_hooks\.(checkpoint\.(greater|less)_keys|logger\.backend_args)": "an empty one is none",
    r"default_hooks\.checkpoint\.(max_keep_ckpts|interval)": "there is one checkpoint",
    r"default_hooks\.logger\.interval_exp_name": "steps until a line, more than there are",
    r"auto_scale_lr\.base_batch_size": "read with auto_scale_lr.enable=True only",
    r".*(metainfo|classes|data_prefix|data_root|ann_file|lazy_init|serialize_data|max_refetch|filter_cfg).*": "others'",
    r".*(indices|topk|cal_acc|num_classes|non_blocking|batch_augments|pad_.*|to_onehot|bgr_to_rgb)": "mmpretrain's",
}

# What pages name that the walk does not go over, with the reason.
NO_KEYS = {
    r"pruner|ratios|components|constraints|candidate_pool_size|candidate_top_k|except_start_keys": "MMRazor 0.x's",
    r"data|samples_per_gpu|runner|placeholder_mapping|mutable_cfg": "MMRazor 0.x's",
    r"data\.samples_per_gpu|workflow|dist_params\.port|model\.mutable_cfg": "MMRazor 0.x's",
    r"num_sample_training|tracer_type|demo_input|default_args": "MMRazor 1.x's",
    r"bn_training_mode|deploy_index|predictor_cfg|train_samples|flops_range": "MMRazor 1.x's",
    r"mutator\.channel_unit_cfg|mutator\.parse_cfg": "MMRazor 1.x's, in our form by migration",
    r"dynamo|original": "arguments of torch.onnx.export and of deliver: tests/delivery/test_deliver.py",
    r"exp_name|init_kwargs|project|tracking_uri": "of trackers of others, through mmengine's classes",
    r"env_cfg\.dist_cfg\.timeout": "of several processes",
    r"any_width|weights_only|score|show|values": "arguments of functions",
    r"model\.x|identity|name": "an example's name",
    r"task\.size": "of the jobs of a study: tests/benchmarks/test_claims.py",
    r"model\.num_classes": "an argument of a net that slim is given by its name",
    r"net|pretrained|weights|alpha|augments": "of a net of torchvision, timm or one's own",
    r"reset_head": "of init_cfg: tests/checkpoints/test_weight_names.py",
    r"keep|limits|outputs|tune": "arguments of slim and image_folder: tests/slimming",
    r"samples": "of search_cfg.predictor: tests/engine/search/test_predictor_loop.py",
    r"into|out": "of mutator.groups, which are layers of one network: tests/models/mutators/test_width_mutator.py",
    r"optim_wrapper\.dtype": "of the wrapper that --amp puts in place: tests/config/test_load.py",
    r"default_hooks\.early_stopping|monitor": "a hook that is added: tests/engine/test_best_checkpoint.py",
    r"search_cfg\.constraints_range\.macs|latency|params": "resources: tests/engine/search/test_evolution_loop.py",
}


def drawn(cfg: dict, seed: int, count: int, per_key: int) -> list[tuple[str, str]]:
    """``count`` keys of a config, each with ``per_key`` names of values."""
    rng = random.Random(seed)
    keys = keys_of(cfg)
    chosen = rng.sample(keys, min(count, len(keys)))
    return [(key, name) for key in chosen for name in rng.sample(sorted(ABSURD), per_key)]


def is_good(line: str, key: str, name: str) -> bool:
    """Whether a refusal is one short line that names the key."""
    named = name == "nested" or SECTIONS.fullmatch(key) or key.rpartition(".")[2] in line
    return bool(named) and len(line) <= LONGEST and "\n" not in line


@pytest.mark.parametrize(("keys", "values"), [(12, 2), pytest.param(10_000, 2, marks=pytest.mark.fuzz)])
@pytest.mark.parametrize("config", CONFIGS)
def test_every_key_is_judged_before_anything_is_built(root, config, keys, values):
    path = root / "configs" / config
    base, wrong = read(str(path)), []
    for key, name in drawn(load_config(path)._cfg_dict, seed=1, count=keys, per_key=values):
        try:
            completed(copy.deepcopy(base), path, [f"{key}={ABSURD[name]}"])
        except UserError as error:
            if not is_good(one_line(error), key, name):
                wrong.append((key, name, one_line(error)))
        except Exception as error:
            wrong.append((key, name, repr(error)[:300]))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_documented_option_is_walked(root):
    walked = {key for config in CONFIGS for key in keys_of(load_config(root / "configs" / config)._cfg_dict)}
    pages = {page.name: options_of(page) for page in [*sorted(root.glob("docs/*.md")), root / "README.md"]}
    named = {key for keys in pages.values() for key in keys}
    assert len(named) > 100  # else the pages are not read as they are written
    unknown = {
        f"{name}: {key}"
        for name, keys in pages.items()
        for key in keys
        if not is_known(key, walked) and not any(re.fullmatch(pattern, key) for pattern in NO_KEYS)
    }
    assert not unknown, "\n".join(sorted(unknown))
    idle = [pattern for pattern in NO_KEYS if not any(re.fullmatch(pattern, key) for key in named)]
    assert not idle


@pytest.fixture(scope="module")
def plain_run(root, tmp_path_factory):
    """The command of a tiny training, and what it comes to."""
    config = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"

    def run(*options: str) -> tuple[int, Path]:
        from mmengine.logging import MMLogger

        MMLogger._instance_dict.clear()
        folder = tmp_path_factory.mktemp("run")
        words = ["train", config, "--work-dir", folder, "--cfg-options", *TINY, *DATA, *options]
        return main([str(word) for word in words]), folder

    first, second = (shown(folder) for status, folder in (run(), run()) if status == 0)
    assert first == second  # else nothing could be seen to be ignored
    return run, first


def unseen(key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in UNSEEN)


@pytest.mark.parametrize(("first", "count"), [(0, 3), pytest.param(3, 40, marks=pytest.mark.fuzz)])
def test_what_is_accepted_changes_the_run(root, plain_run, capsys, monkeypatch, tmp_path, first, count):
    monkeypatch.chdir(tmp_path)
    run, expected = plain_run
    path = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    base, cfg = read(str(path)), load_config(path, [*TINY, *DATA])
    accepted = []
    for key, name in drawn(cfg._cfg_dict, seed=2, count=10_000, per_key=3):
        if unseen(key):
            continue
        try:
            found = completed(copy.deepcopy(base), path, [*TINY, *DATA, f"{key}={ABSURD[name]}"])
        except UserError:
            continue
        if found._cfg_dict != cfg._cfg_dict and not is_default(found._cfg_dict, key):
            accepted.append((key, name))
        if len(accepted) == first + count:
            break
    wrong = []
    for key, name in accepted[first:]:
        capsys.readouterr()
        try:
            status, folder = run(f"{key}={ABSURD[name]}")
        except Exception as error:
            wrong.append((key, name, repr(error)[:300]))
            continue
        lines = capsys.readouterr().err.strip().splitlines()
        if status == 2 and not (len(lines) == 1 and is_good(lines[0], "", name)):
            wrong.append((key, name, lines))
        elif status == 0 and shown(folder) == expected:
            wrong.append((key, name, "accepted and ignored"))
    assert not wrong, "\n".join(map(str, wrong))
