"""Loading a config: names, overrides, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmrazor_lite.config.files import read
from mmrazor_lite.config.load import load_config
from mmrazor_lite.config.overrides import check, parse
from mmrazor_lite.errors import UserError, raise_all

AUTOSLIM = "configs/pruning/autoslim"


@pytest.fixture
def digits(root) -> Path:
    return root / AUTOSLIM / "autoslim_supernet_digits.py"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        ("algorithm.channel_cfg=A.yaml,B.yaml", "model.channel_cfg", ["A.yaml", "B.yaml"]),
        ("algorithm.channel_cfg=A.yaml", "model.channel_cfg", "A.yaml"),
        ("a.b=1e-3", "a.b", 1e-3),
        ("a=[1,(2,3)]", "a", [1, (2, 3)]),
        ("a=None", "a", None),
        ("a=true", "a", True),
        ("data_root=/my data/x", "data_root", "/my data/x"),
        ("a=b=c", "a", "b=c"),
    ],
)
def test_options_are_read(pair, key, value):
    assert parse([pair]) == {key: value}


@pytest.mark.parametrize(("pair", "message"), [("a", "KEY=VALUE"), ("=1", "KEY=VALUE"), ("a=[1", "brackets")])
def test_broken_options_are_refused(pair, message):
    with pytest.raises(UserError, match=message):
        parse([pair])


@pytest.mark.parametrize("index", ["²", "-1", "9" * 5000])
def test_what_is_no_index_of_a_list_is_refused(digits, index):
    with pytest.raises(UserError, match="candidate_choices is a list of .*, give an index from 0"):
        load_config(digits, [f"model.mutator.candidate_choices.{index}=1"])


def test_overrides_and_names(digits):
    cfg = load_config(digits, ["algorithm.num_random_samples=3", "model.architecture.backbone.norm_cfg.type=SyncBN"])
    assert cfg.model.type == "mmrazor_lite.AutoSlim"
    assert cfg.model.num_random_samples == 3
    assert cfg.model.architecture.type == "ImageClassifier"
    assert cfg.model.architecture.backbone.norm_cfg.type == "SyncBN"


def test_overrides_reach_into_lists(root):
    config, key = root / "configs/nas/tfnas/tfnas_search_cifar10.py", "model.architecture.backbone.arch_setting"
    before = load_config(config).model.architecture.backbone.arch_setting
    after = load_config(
        config, [f"{key}.0.1=4", f"{key}.0.2=1", f"{key}.1.0=9"]
    ).model.architecture.backbone.arch_setting
    expected = [list(stage) for stage in before]
    expected[0][1], expected[0][2], expected[1][0] = 4, 1, 9
    assert [list(stage) for stage in after] == expected != [list(stage) for stage in before]


def test_options_of_mixed_precision(digits):
    with pytest.raises(UserError, match="no 'dtype' in optim_wrapper"):
        load_config(digits, ["optim_wrapper.dtype=bfloat16"])
    typed = load_config(digits, ["optim_wrapper.type=AmpOptimWrapper", "optim_wrapper.dtype=bfloat16"])
    flagged = load_config(digits, ["optim_wrapper.dtype=bfloat16"], amp=True)
    assert typed.optim_wrapper.dtype == flagged.optim_wrapper.dtype == "bfloat16"
    assert flagged.optim_wrapper.type == "mmrazor_lite.SubnetAmpOptimWrapper"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.mutatr.divisor=4", "no 'mutatr' in model .did you mean 'mutator'"),
        ("optim_wrapper.optimizer.momentun=0", "did you mean 'momentum'"),
        ("train_confg.max_epochs=1", "no 'train_confg' in the config .did you mean 'train_cfg'"),
        ("train_pipeline.0.type=X", "helper variable"),
        ("model.type.x=1", "model.type is a str"),
        ("train_dataloader.dataset.dataset.pipeline.9.type=X", "list of 2"),
        ("data_root=/x", "reads no data folder"),
        ("model.mutator.type=OneShotChanelMutator", "not registered .did you mean 'OneShotChannelMutator'"),
        ("default_hooks.loger.interval=1", "did you mean 'logger'"),
        ("train_dataloader.batchsize=1", "did you mean 'batch_size'"),
        ("optim_wrapper.paramwise_cfg.norm_decay=0", "did you mean 'norm_decay_mult'"),
    ],
)
def test_overrides_that_would_change_nothing_are_refused(digits, option, message):
    with pytest.raises(UserError, match=message):
        load_config(digits, [option])


def test_data_root_reaches_every_dataset(root):
    cfg = load_config(root / AUTOSLIM / "autoslim_mbv2_search_8xb1024_in1k.py", ["data_root=/elsewhere"])
    datasets = [
        cfg.train_dataloader.dataset.dataset,
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
        cfg.search_cfg.dataloader.dataset.dataset,
        cfg.search_cfg.calibrate_dataloader.dataset.dataset,
    ]
    assert {dataset.data_root for dataset in datasets} == {"/elsewhere"}
    assert "data_root='/elsewhere'" in cfg.pretty_text.replace(" ", "")


def test_missing_file_names_the_nearest(digits):
    with pytest.raises(UserError, match="did you mean 'autoslim_supernet_digits.py'"):
        load_config(digits.with_name("autoslim_supernet_digit.py"))


@pytest.mark.parametrize("base", ["mmcls", "mmpretrain"])
def test_mmcls_is_an_alias_of_mmpretrain(tmp_path, base):
    path = write(tmp_path, f"_base_ = ['{base}::_base_/models/mobilenet_v2_1x.py']\n")
    cfg = load_config(path)
    assert cfg.model.backbone.type == "MobileNetV2"
    assert cfg.model.get("_scope_", "mmpretrain") == "mmpretrain"


def test_a_base_of_mmpretrain_is_found_by_its_path_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("mmengine.config.utils.load", lambda path: pytest.fail(f"{path} was read"))
    cfg = load_config(write(tmp_path, "_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'\n"))
    assert cfg.model.backbone.depth == 18 and cfg.train_dataloader.batch_size == 32
    path = write(tmp_path, "_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1.py'\n")
    with pytest.raises(UserError, match="8xb32_in1.py' is not there; 'resnet18_8xb32_in1k.py' is in that folder"):
        load_config(path)


def test_old_prefixes_are_rewritten(tmp_path):
    architecture = "dict(type='mmcls.ImageClassifier', backbone=dict(type='mmcls.ResNet', depth=18))"
    mutator = "dict(type='mmrazor.OneShotChannelMutator')"
    text = f"model = dict(type='mmrazor.AutoSlim', architecture={architecture}, mutator={mutator})\n"
    cfg = load_config(write(tmp_path, text))
    assert cfg.model.type == "mmrazor_lite.AutoSlim"
    assert cfg.model.architecture.backbone.type == "mmpretrain.ResNet"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("algorithm = dict(type='AutoSlim')\n", "algorithm.architecture.model=None: .*algorithm.pruner: is None"),
        ("model = dict(type='AutoSlm')\n", "did you mean 'AutoSlim'"),
        (
            "model = dict(type='AutoSlim', distilller=None)\n",
            "unknown key 'distilller' in model .did you mean 'distiller'",
        ),
        ("train_confg = dict(by_epoch=True, max_epochs=3)\n", "unknown key 'train_confg'.*did you mean 'train_cfg'"),
        ("model = dict(\n", "cannot be read: SyntaxError"),
        ("_base_ = 'missing.py'\n", "cannot be read"),
        (
            "from torch import nn\nmodel = nn.Module()\n",
            "cannot be read: line 2 calls what the file imports",
        ),
        ("model = dict(type='no.such.Module')\n", "not registered"),
        ("model = dict(type='ResNet', depth=18)\nval_cfg = dict(type='SubnetValLoop', fp61=True)\n", "'fp16'"),
    ],
)
def test_broken_configs_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_config(write(tmp_path, text))


def test_used_helper_variables_are_fine(tmp_path):
    text = "size = 32\npipe = [dict(type='LoadImageFromFile')]\nmodel = dict(type='ResNet', depth=18)\n"
    text += "val_dataloader = dict(batch_size=size, dataset=dict(type='CustomDataset', data_root='x', pipeline=pipe))\n"
    assert load_config(write(tmp_path, text)).val_dataloader.batch_size == 32


def base_and_leaf(folder: Path, leaf: str) -> Path:
    (folder / "base.py").write_text(
        "data_root = 'old'\n"
        "dataset = dict(type='CustomDataset', data_root=data_root, pipeline=[])\n"
        "train_dataloader = dict(batch_size=1, dataset=dict(type='HeldOut', dataset=dataset))\n"
        "val_dataloader = dict(batch_size=1, dataset=dict(type='CustomDataset', data_root='elsewhere', pipeline=[]))\n"
        "model = dict(type='ResNet', depth=18)\n"
    )
    (folder / "middle.py").write_text("_base_ = 'base.py'\n")
    (folder / "leaf.py").write_text(f"_base_ = './middle.py'\n{leaf}")
    return folder / "leaf.py"


def test_data_root_of_a_leaf_reaches_what_was_copied_from_its_base(tmp_path):
    cfg = load_config(base_and_leaf(tmp_path, "data_root = '/mine'\n"))
    assert cfg.train_dataloader.dataset.dataset.data_root == "/mine"
    assert cfg.val_dataloader.dataset.data_root == "elsewhere"  # a folder of its own
    cfg = load_config(base_and_leaf(tmp_path, "data_root = '/mine'\n"), ["data_root=/other"])
    assert cfg.train_dataloader.dataset.dataset.data_root == "/other"
    (tmp_path / "second.py").write_text("_base_ = './leaf.py'\ndata_root = '/second'\n")
    assert load_config(tmp_path / "second.py").train_dataloader.dataset.dataset.data_root == "/second"


def test_data_root_of_a_leaf_that_reaches_nothing_is_refused(tmp_path):
    leaf = "train_dataloader = dict(dataset=dict(dataset=dict(data_root='own')))\ndata_root = '/mine'\n"
    with pytest.raises(UserError, match="data_root='/mine' at top level reaches no dataset; set it in the datasets"):
        load_config(base_and_leaf(tmp_path, leaf))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deeplabv3_resnet50", r"a network for segmentation, .*models.segmentation.deeplabv3_resnet50\(\)"),
        ("lraspp_mobilenet_v3_large", "a network for segmentation"),
        ("fasterrcnn_resnet50_fpn", r"a network for detection, configs train classifiers of images: allowed are .*\)$"),
        ("raft_small", "a network for optical flow"),
        ("r3d_18", "a network for video"),
        ("deeplabv3_resnet5O", "torchvision has no model"),
    ],
)
def test_networks_of_torchvision_for_something_else(tmp_path, name, message):
    text = f"model = dict(type='AutoSlim', architecture=dict(type='torchvision.{name}', num_classes=10))\n"
    with pytest.raises(UserError, match=message) as caught:
        load_config(write(tmp_path, text))
    assert "did you mean 'mobilenet" not in str(caught.value)


@pytest.mark.parametrize("scope", ["", "mmengine."])
def test_the_usual_wrapper_of_mmengine_is_ours(digits, tmp_path, scope):
    text = f"_base_ = {str(digits)!r}\nmodel_wrapper_cfg = dict(type='{scope}MMDistributedDataParallel')\n"
    cfg = load_config(write(tmp_path, text + "find_unused_parameters = False\n"))
    assert cfg.model_wrapper_cfg == {"type": "mmrazor_lite.SubnetDDP", "find_unused_parameters": False}


def test_a_module_of_another_folder_with_the_same_name_is_told(tmp_path, monkeypatch):
    """Python reads a module once: the second would be the first one, without a word."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_parts_of_a_test.py").write_text(f"WHERE = {folder!r}\n")
        (tmp_path / folder / "config.py").write_text("custom_imports = dict(imports=['my_parts_of_a_test'])\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path / "a")
    try:
        read("config.py")
        read("config.py")  # the same file again is no other module
        monkeypatch.chdir(tmp_path / "b")
        with pytest.raises(UserError, match=r"'my_parts_of_a_test' is .*a/my_parts_of_a_test\.py already"):
            read("config.py")
    finally:
        sys.modules.pop("my_parts_of_a_test", None)


SLIM = "configs/pruning/autoslim/autoslim_supernet_digits.py"


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        ("paramwise_cfg = dict(norm_decay_mult=0.0)\noptim_wrapper = dict(paramwise_cfg=paramwise_cfg)\n", None),
        ("count = 3\nmodel = dict(num_random_samples=count)\n", None),
        ("optim_wraper = dict(optimizer=dict(type='SGD'))\n", "unknown key 'optim_wraper' .* 'optim_wrapper'"),
        ("unused = 3\n", "unknown key 'unused'"),
        ("model = _base_.model\nmodel.num_random_samples = 3\n", None),
    ],
)
def test_a_helper_variable_is_a_name_that_its_file_uses(root, tmp_path, leaf, message):
    path = write(tmp_path, f"_base_ = {str(root / SLIM)!r}\n{leaf}")
    if message is None:
        load_config(path)
    else:
        with pytest.raises(UserError, match=message):
            load_config(path)


def test_a_name_of_a_base_is_free_unless_it_is_nearly_a_key(root, tmp_path):
    base = tmp_path / "base.py"
    leaf = write(tmp_path, "_base_ = './base.py'\nmodel = dict(num_random_samples=3)\n")
    base.write_text(f"_base_ = {str(root / SLIM)!r}\nextra_params = dict(a=1)\n")
    load_config(leaf)
    base.write_text(f"_base_ = {str(root / SLIM)!r}\nval_evaluatr = dict(type='Accuracy')\n")
    with pytest.raises(UserError, match="unknown key 'val_evaluatr'.*did you mean 'val_evaluator'"):
        load_config(leaf)


def test_everything_that_is_wrong_is_told_at_once(root, tmp_path):
    leaf = "optim_wraper = 3\nmodel = dict(distilller=None, num_random_sample=3)\ntrain_cfg = dict(by_epoch='yes')\n"
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path, f"_base_ = {str(root / SLIM)!r}\n{leaf}"))
    text = str(caught.value)
    assert all(word in text for word in ("'optim_wraper'", "'distilller'", "'num_random_sample'", "train_cfg.by_epoch"))
    assert "\n" not in text


def test_a_base_of_mmrazor_is_ours_and_one_that_is_gone_is_named(tmp_path):
    cfg = load_config(write(tmp_path, "_base_ = 'mmrazor::_base_/settings/imagenet_bs2048_autoslim_pil.py'\n"))
    assert cfg.train_dataloader.batch_size == 256 and cfg.optim_wrapper.optimizer.nesterov
    assert cfg.train_dataloader.dataset.pipeline[1].crop_ratio_range == (0.25, 1.0)
    assert {loader.dataset.pipeline[1].backend for loader in (cfg.train_dataloader, cfg.test_dataloader)} == {"pillow"}
    path = write(tmp_path, "_base_ = '../_base_/settings/imagenet_bs1024_spos.py'\n")
    with pytest.raises(UserError, match="is not there; .* 'mmrazor::_base_/settings/imagenet_bs1024_spos.py'"):
        load_config(path)


def test_an_option_imports_nothing_from_the_current_folder(tmp_path, monkeypatch, digits):
    (tmp_path / "evil_of_a_test.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    text = f"_base_ = {str(digits)!r}\nmodel = dict(type='evil_of_a_test.Net', _delete_=True)\n"
    cfg = read(str(write(tmp_path, text)))
    check(cfg._cfg_dict, "model.width")
    assert "evil_of_a_test" not in sys.modules


def test_names_of_mmengine_behind_those_of_mmpretrain(digits):
    cfg = load_config(digits, ["train_dataloader.sampler.type=mmcls.DefaultSampler"])
    assert cfg.train_dataloader.sampler.type == "DefaultSampler"
    assert load_config(digits, ["val_evaluator.type=mmcls.Accuracy"]).val_evaluator.type == "mmpretrain.Accuracy"


def test_what_is_said_alike_of_several_places_is_said_once():
    problems = [
        "a.x.lr=-1: give 0 or more",
        "a.y.lr=-1: give 0 or more",
        "lr is lost",
        "b.lr=-2: give 0 or more",
        "c: no",
    ]
    with pytest.raises(UserError) as error:
        raise_all("f.py", [*problems, problems[0]])
    told = "a.x.lr=-1: give 0 or more (the same in 1 more); lr is lost; b.lr=-2: give 0 or more; c: no"
    assert str(error.value) == f"f.py: {told}"
    raise_all("f.py", [])
