"""A carried config opens no file: text is refused but where it is a word of a closed set; and it builds no bomb."""

from __future__ import annotations

import builtins
import importlib
import inspect
import resource
import signal
import time

import pytest
import torch
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.export.allowed_text import is_word
from mmrazor_lite.export.build_limit import bounded
from mmrazor_lite.export.rebuild import check_architecture, check_config, rebuild, rebuild_mutator
from mmrazor_lite.registry import MUTATORS

pytestmark = pytest.mark.usefixtures("registered")
CLASSIFIER = {"type": "ImageClassifier", "backbone": {"type": "ResNet", "depth": 18}, "head": {"type": "ClsHead"}}


def _classes() -> dict:
    import mmpretrain.models  # noqa: F401
    from mmengine.registry import MODELS as ENGINE
    from mmpretrain.registry import MODELS as PRETRAIN

    from mmrazor_lite.registry import MODELS

    found = {**ENGINE.module_dict, **PRETRAIN.module_dict, **MODELS.module_dict}
    return {name: cls for name, cls in found.items() if inspect.isclass(cls) and issubclass(cls, nn.Module)}


NAMES = ("/etc/hostname", "pyproject.toml", "https://a.b/c", "bert-base-uncased", "a.pth", "hf-hub:a/b", "../x", "a\0")


def test_no_argument_of_any_class_takes_a_name():
    """Also as one of a list, and inside a dict without a type."""
    classes = _classes()
    assert len(classes) > 200
    for number, (name, cls) in enumerate(sorted(classes.items())):
        makers = [vars(c)["__init__"] for c in cls.__mro__ if "__init__" in vars(c)]
        arguments = {parameter for maker in makers for parameter in inspect.signature(maker).parameters}
        for argument in (*sorted(arguments), "no_such_argument"):
            assert not any(is_word(value, argument, cls) for value in NAMES)
        value = NAMES[number % len(NAMES)]
        for given in (value, [1, value], {"inner": [value]}):
            with pytest.raises(UserError, match="a.pth: architecture") as error:
                check_config({"type": name, argument: given}, "a.pth", "architecture")
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "ArcFaceClsHead", "num_classes": 3, "in_channels": 4, "margins": "FILE"},
        {"type": "VQAGenerationHead", "decoder": {}, "inference_method": "rank", "answer_list_path": "FILE"},
        {"type": "MultiTaskHead", "task_heads": {"a": {"type": "ClsHead", "ans2label": "FILE"}}},
    ],
)
def test_files_that_heads_would_read_stay_shut(tmp_path, monkeypatch, part):
    secret = tmp_path / "secret.txt"
    secret.write_text("1 2 3")
    opened = []
    real = builtins.open
    monkeypatch.setattr(builtins, "open", lambda name, *a, **k: opened.append(str(name)) or real(name, *a, **k))

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return str(secret) if value == "FILE" else value

    with pytest.raises(UserError, match=r"a\.pth: architecture\.head\.\S+: .* is no word that is known there"):
        rebuild({**CLASSIFIER, "head": filled(part)}, None, "a.pth")
    assert str(secret) not in opened


@pytest.mark.parametrize("name", ["pretrained", "checkpoint", "weights"])
@pytest.mark.parametrize("value", [True, 1, {"a": 1}, ["x"], "x"])
def test_what_fetches_is_off(name, value):
    with pytest.raises(UserError):
        check_config({"type": "ResNet", "depth": 18, name: value}, "a.pth", "architecture")
    check_config({"type": "ResNet", "depth": 18, name: False}, "a.pth", "architecture")


@pytest.mark.parametrize(
    "backbone",
    [
        {"type": "VisionTransformer", "arch": "deit-tiny", "out_type": "cls_token"},
        {"type": "EfficientNet", "arch": "b0", "norm_cfg": {"type": "BN"}, "act_cfg": {"type": "Swish"}},
        {"type": "RegNet", "arch": "regnetx_400mf"},
        {"type": "ResNet", "depth": 50, "style": "caffe"},
        {"type": "MobileNetV3", "arch": "small"},
        {"type": "TIMMBackbone", "model_name": "resnet18"},
        {"type": "ConvNeXt", "arch": "tiny", "norm_cfg": {"type": "LN2d", "eps": 1e-6}},
    ],
)
def test_words_of_real_networks(backbone):
    check_architecture({"type": "ImageClassifier", "backbone": backbone}, "a.pth")


def test_the_mutator_of_someone_else_takes_no_text():
    @MUTATORS.register_module(force=True)
    class Foreign:
        def __init__(self, plan: str = "fast") -> None:
            self.plan = plan

    try:
        assert rebuild_mutator({"type": "Foreign", "plan": "fast"}, "a.pth").plan == "fast"
        with pytest.raises(UserError, match=r"mutator.plan: '/etc/passwd' is no word"):
            rebuild_mutator({"type": "Foreign", "plan": "/etc/passwd"}, "a.pth")
    finally:
        MUTATORS.module_dict.pop("Foreign")


# bombs ----------------------------------------------------------------------------------------------------------

INVERTED = {"type": "mmrazor_lite.InvertedResidualNet", "stem_channels": 8, "last_channels": 8}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**INVERTED, "settings": [[1, 8, 1, 1]] * 10_000}, "more than 20,000 entries"),
        ({**INVERTED, "settings": [[1, 8, 100_000, 1]]}, "makes more than 2,050 layers, far more than the weights"),
        ({**INVERTED, "settings": [[1, 8, 10**9, 1]]}, r"settings\[0\]\[2\]: 1000000000 is more than a network needs"),
        (
            {**INVERTED, "stem_channels": 10**5, "settings": [[9, 10**5, 1, 1]]},
            "far more than the weights",
        ),
        (
            {**INVERTED, "stem_channels": 2000, "settings": [[9, 2000, 1, 1]]},
            "makes a tensor of .*, far more than the weights",
        ),
        ({"type": "ConvNeXt", "arch": {"depths": [9**5] * 4, "channels": [8] * 4}}, "far more than the weights"),
        ({"type": "VisionTransformer", "arch": "h", "img_size": 10**5}, "far more than the weights"),
        ({"type": "ResNet", "depth": 18, "norm_cfg": {"x" * 300: 1, "type": "BN"}}, "is not text, or longer than 200"),
        ({"type": "ResNet", "depth": 18, "style": "y" * 10**6}, "is more than a network needs"),
        ({"type": "ResNet", "depth": 10**5}, "cannot be built"),
    ],
)
def test_what_a_file_of_a_few_bytes_may_not_build(config, message):
    began = time.process_time()
    with pytest.raises(UserError, match=message) as error:
        rebuild({"type": "ImageClassifier", "backbone": config}, None, "a.pth", {"w": torch.zeros(1)})
    assert time.process_time() - began < 2.5  # time of the system included
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_supernet_of_the_weights_is_built():
    net = {**INVERTED, "settings": [[4, 64, 4, 1]]}
    model = rebuild({"type": "ImageClassifier", "backbone": net}, None, "a.pth", {"w": torch.zeros(1)})
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 2 + 4 * 3  # stem, last, 4 blocks


@pytest.mark.parametrize(
    "make",
    [
        lambda n: torch.zeros(n, n),
        lambda n: torch.empty((n, n)),
        lambda n: torch.full((n, n), 0.5),
        lambda n: torch.randn(size=(n, n)),
        lambda n: torch.arange(n * n),
        lambda n: torch.linspace(0, 1, n * n),
        lambda n: torch.linspace(0, 1, steps=n * n),
        lambda n: torch.eye(n),
        lambda n: nn.Linear(n, n),
        lambda n: nn.ModuleList(nn.Identity() for _ in range(n)),
    ],
)
def test_limits_of_what_is_made(make):
    with bounded(100, 10_000, "it"):
        make(8)
        with pytest.raises(UserError, match="^it makes .* far more than"):
            make(10_000)
    assert make(150) is not None


def test_loops_of_python_end_too():
    """LeViT makes its table of offsets in one: 100 million turns of an image size that looks like a large one."""
    config = {"type": "ImageClassifier", "backbone": {"type": "LeViT", "arch": "128s", "img_size": 1600}}
    before = time.process_time()
    with pytest.raises(UserError, match="^a.pth: .*takes more than 1.5 s to build"):
        rebuild(config, None, "a.pth", {"weight": torch.zeros(100)})
    assert time.process_time() - before < 2.5
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def _work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_a_constructor_imports_is_no_time_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "imported_while_built.py").write_text(
        "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end:\n    pass\n"
    )
    (tmp_path / "builds_while_imported.py").write_text(
        "import time\nfrom mmrazor_lite.export.build_limit import bounded\nend = time.process_time() + 2\n"
        "with bounded(1, 1, 'it', seconds=0.3):\n    while time.process_time() < end:\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with bounded(1, 1, "it", seconds=0.3):
        importlib.import_module("imported_while_built")
        _work(0.1)
    with bounded(1, 1, "it", seconds=0.3), pytest.raises(UserError, match="takes more than 0.3 s"):
        _work(2)
    with pytest.raises(UserError, match="takes more than 0.3 s"):
        importlib.import_module("builds_while_imported")


def test_memory_that_is_no_tensor_is_limited(monkeypatch):
    monkeypatch.setattr("mmrazor_lite.export.build_limit._MEMORY", 1 << 26)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with bounded(100, 10_000, "it"), pytest.raises(MemoryError):
        bytearray(1 << 32)  # more than what earlier tests have freed, which a command keeps to itself
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytearray(1 << 28)) == 1 << 28


def test_a_tick_that_comes_late_ends_nobody():
    """By default it ends the process without a word: another thread may have met it before the timer was stopped."""
    with bounded(1, 1, "it"):
        pass
    signal.raise_signal(signal.SIGVTALRM)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
