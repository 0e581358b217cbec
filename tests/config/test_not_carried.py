"""What belongs to MMRazor or another OpenMMLab project and is not here is refused as that, never with "install it"."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrazor_lite.config import names, not_carried, schema
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError

CARRIED = "carried are AutoSlim, SPOS, OFA/BigNAS, TF-NAS; see docs/migration.md"
NAMES = Path(__file__).with_name("mmrazor_names.txt").read_text().split("\n")[1:]


def write(folder: Path, text: str, name: str = "config.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path)
    text = str(caught.value)
    assert "install" not in text and len(text.splitlines()) == 1
    return text


def not_here(path: Path, what: str) -> None:
    """The one line that a config of ``what`` is answered with, whatever else is in it."""
    assert refused(path) == f"{path}: not carried: {what}; {CARRIED}"


def test_every_class_of_mmrazor_is_here_or_has_a_reason(registered):
    assert len(NAMES) > 250
    for name in filter(None, NAMES):
        here = schema.find(names.renamed(f"mmrazor.{name}"))
        assert here or "not carried: " in (not_carried.reason(f"mmrazor.{name}") or ""), name


def test_what_is_here_is_in_no_table(registered):
    """Else a config that works would be told that it cannot; the few that mmpretrain has are MMRazor's too."""
    listed = {name for _, _, names in not_carried._CLASSES for name in names.split()}
    assert not {name for name in listed if schema.find(f"mmrazor_lite.{name}")}
    assert listed <= set(NAMES)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (
            "type='mmrazor.SingleTeacherDistill', teacher=dict(type='mmcls.ResNet', depth=18)",
            "distillation from another network",
        ),
        ("type='mmrazor.DSNAS'", "DSNAS"),
        ("type='Autoformer'", "AutoFormer"),
        ("type='mmrazor.MMArchitectureQuant', quantizer=dict(type='mmrazor.OpenVINOQuantizer')", "quantization"),
        ("type='mmdet.FasterRCNN'", "object detection (mmdet)"),
        ("type='FasterRCNN'", "object detection (mmdet)"),
        ("type='AutoSlim', architecture=dict(type='mmseg.EncoderDecoder')", "semantic segmentation (mmseg)"),
        ("type='AutoSlim', architecture=dict(_scope_='mmdet', type='RetinaNet')", "object detection (mmdet)"),
        ("type='mmrazor.DCFF', architecture=dict(type='mmdet.RetinaNet', head=dict(loss=dict(type='L1Loss')))",
         "DCFF (mmdet)"),
    ],
)  # fmt: skip
def test_a_model_of_something_else(tmp_path, model, what):
    """Said before anything else that may be wrong with the config."""
    not_here(write(tmp_path, f"lr_ratio = 7\nmodel = dict({model})\n"), what)


def test_what_to_write_instead(tmp_path):
    head = "head=dict(type='mmrazor.LinearNoBiasClsHead')"
    text = refused(write(tmp_path, f"model = dict(type='ImageClassifier', {head})\n"))
    assert "model.head: not carried: LinearNoBiasClsHead" in text and "BiasFreeLinearClsHead" in text


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        (
            "pkd.py",
            "_base_ = ['mmdet::_base_/datasets/coco_detection.py']\n",
            "distillation from another network (mmdet)",
        ),
        ("mine.py", "_base_ = ['mmdet::_base_/datasets/coco_detection.py']\n", "object detection (mmdet)"),
        ("mine.py", "_base_ = ['mmseg::_base_/default_runtime.py']\n", "semantic segmentation (mmseg)"),
        ("mine.py", "_base_ = 'mmrazor::_base_/x.py'\nmodel = dict(type='mmrazor.Darts')\n", "DARTS"),
        ("mine.py", "_base_ = 'mmdet::x.py'\nmodel = dict(type='DMCP')\n", "DMCP (mmdet)"),
        ("mine.py", "_base_ = ''\nmodel = dict(type='DMCP', x=_base_.model)\n", "DMCP"),
        ("mine.py", "_base_ = './gone.py'\nmodel = dict(type='GroupFisherAlgorithm')\n", "group Fisher pruning"),
        ("mine.py", "model = {'type': 'mmrazor.DSNAS'}\n1 / 0\n", "DSNAS"),
        ("mine.py", "model = dict(type='DMCP')\nrunner = dict(max_iters=1)\ntrain_cfg = dict()\n", "DMCP"),
        ("ptq_openvino.py", "default_scope = 'mmdet'\n", "quantization (mmdet)"),
        ("faster-rcnn_r50.py", "_base_ = '../gone.py'\n", "object detection"),
        ("crd_cifar10.py", "neg_num = 3\ntrain_dataloader = dict(neg_num=neg_num)\n",
         "distillation from another network"),
    ],
)  # fmt: skip
def test_a_config_of_something_else(tmp_path, name, text, what):
    not_here(write(tmp_path, text, name), what)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("tta.py", "tta_model = dict(type='DetTTAModel')\n", "several views of an image"),
        ("pose.py", "codec = dict(type='UDPHeatmap', sigma=2)\n", "pose estimation (mmpose)"),
        ("lidar.py", "point_cloud_range = [0, -40, -3, 70, 40, 1]\n", "3D object detection"),
        ("deploy.py", "deploy_cfg = dict(backend_config=dict(type='openvino'))\n", "deployment"),
    ],
)
def test_a_key_of_something_else(tmp_path, name, text, what):
    said = refused(write(tmp_path, text, name))
    assert f"not carried: {what}" in said and said.endswith(CARRIED) and str(tmp_path / name) in said


def test_what_a_base_says_counts(tmp_path):
    write(tmp_path, "_base_ = 'a.py'\nmodel = dict(type='mmrazor.DMCP')\n", "base.py")
    write(tmp_path, "_base_ = ['base.py', 'mmcls::x.py']\n", "a.py")  # one goes round in a circle
    not_here(write(tmp_path, "_base_ = './a.py'\nmodel = dict(norm_training=True)\n"), "DMCP")


def test_a_name_alone_tells_where_the_model_is_that_of_spos(root, tmp_path):
    """MMRazor's DetNAS trains its backbone by a config of SPOS under another name."""
    text = f"_base_ = '{root}/configs/nas/spos/spos_supernet_digits.py'\n"
    load_config(write(tmp_path, text, "mine.py"))
    assert "not carried: DetNAS (" in refused(write(tmp_path, text, "detnas_supernet.py"))


def test_a_name_of_something_else_is_no_reason_by_itself(root, tmp_path):
    """A config of what is here may be called as it likes, and is told what is wrong with it."""
    text = f"_base_ = '{root}/configs/pruning/autoslim/autoslim_supernet_digits.py'\n"
    load_config(write(tmp_path, text, "dmcp_or_not.py"))
    assert "did you mean 'num_random_samples'" in refused(
        write(tmp_path, f"{text}model = dict(num_random_sample=3)\n", "dmcp_or_not.py")
    )


def test_a_helper_variable_may_be_called_as_elsewhere(root, tmp_path):
    base = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    text = f"_base_ = '{base}'\ndictionary = dict(metric=1)\ncodec = 3\nrandomness = dict(seed=codec)\nmodel = dict()\n"
    with pytest.raises(UserError, match=r"dictionary: not carried: text recognition"):
        load_config(write(tmp_path, text))
    load_config(write(tmp_path, text.replace("dictionary", "_dictionary")))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("spos_shufflenet_supernet_8xb128_in1k.py", "configs/nas/spos"),
        ("autoslim_mbv2_1.5x_subnet_8xb256_in1k_flops-220M.py", "configs/pruning/autoslim"),
        ("ofa_mobilenet_search_8xb128_in1k.py", "configs/nas/mmcls/onceforall"),
    ],
)
def test_a_config_of_what_is_here_is_sent_to_ours(root, tmp_path, name, folder):
    said = refused(write(tmp_path, "_base_ = ['mmrazor::_base_/settings/gone.py']\n", name))
    assert said.endswith(folder) and (root / folder).is_dir()


@pytest.mark.parametrize("option", ["model.architecture.type=mmdet.RetinaNet", "model.architecture._scope_=mmdet"])
def test_an_option_that_names_something_else(root, option):
    with pytest.raises(UserError) as caught:
        load_config(root / "configs/pruning/autoslim/autoslim_supernet_digits.py", [option])
    text = str(caught.value)
    assert "not carried: " in text and CARRIED in text and "install" not in text and "\n" not in text


@pytest.mark.parametrize(
    "option", ["default_scope=[1]", "default_scope={'type':'Nothing'}", "model._scope_={'a':1}", "model._scope_=3"]
)
def test_a_scope_is_text(root, option):
    with pytest.raises(UserError, match=r"scope_?=.*give ") as caught:
        load_config(root / "configs/pruning/autoslim/autoslim_supernet_digits.py", [option])
    assert "\n" not in str(caught.value)
