"""Which names a class takes is read from what it does with its ``**kwargs``."""

from __future__ import annotations

import pytest

from mmrazor_lite.config.load import load_config
from mmrazor_lite.config.signatures import argument_names
from mmrazor_lite.errors import UserError

NETWORK = "_base_ = {base!r}\nmodel = dict(architecture=dict(_delete_=True, {network}))\n"
HOOKS = "_base_ = {base!r}\ncustom_hooks = [dict({hook})]\n"


class Base:
    def __init__(self, size, scale=1):
        self.size, self.scale = size, scale


class ToBase(Base):
    def __init__(self, colour, **kwargs):
        super().__init__(**kwargs)


class ToBaseWithOne(Base):
    def __init__(self, colour, **rest):
        rest.setdefault("size", 1)
        rest = {"size": 2, **rest}
        super(ToBaseWithOne, self).__init__(scale=3, **rest)  # noqa: UP008


class Inherits(ToBase):
    pass


class Keeps(Base):
    def __init__(self, colour, **kwargs):
        super().__init__(1)
        self.options = dict(kwargs)


class HandsOn(Base):
    def __init__(self, colour, **kwargs):
        super().__init__(1)
        self.other = Base(**kwargs)


class HandsOnAndToBase(Base):
    def __init__(self, colour, **kwargs):
        super().__init__(**kwargs)
        self.other = Base(**kwargs)


class Walks(Base):
    def __init__(self, **kwargs):
        for key, value in kwargs.items():
            setattr(self, key, value)


class Reads(Base):
    def __init__(self, colour, **kwargs):
        super().__init__(kwargs.pop("length", 1))
        if "depth" in kwargs or len(kwargs) > 1:
            self.width = kwargs["width"]


class Swallows(Base):
    def __init__(self, colour, **kwargs):
        super().__init__(1)


class ReadsAny(Base):
    def __init__(self, key, **kwargs):
        super().__init__(kwargs[key])


def some(colour, size=1):
    return Base(size)


def any_name(colour, **kwargs):
    return Base(**kwargs)


@pytest.mark.parametrize(
    ("built", "names"),
    [
        (Base, "size scale"),
        (ToBase, "colour size scale"),
        (Inherits, "colour size scale"),
        (ToBaseWithOne, "colour size"),
        (Keeps, None),
        (HandsOn, None),
        (HandsOnAndToBase, None),
        (Walks, None),
        (Reads, "colour length depth width"),
        (Swallows, "colour"),
        (ReadsAny, None),
        (some, "colour size"),
        (any_name, None),
        (type("NoSource", (Base,), {"__init__": eval("lambda self, **k: None")}), None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_names_of_a_class(built, names):
    found = argument_names(built)
    assert found == (names and frozenset(names.split()))


@pytest.fixture
def base(root) -> str:
    return str(root / "configs/any_model/my_net_supernet_cifar10.py")


def load(folder, text):
    path = folder / "config.py"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize(
    "network",
    [
        "type='ImageClassifier', backbone=dict(type='TIMMBackbone', model_name='resnet10t', drop_path_rate=0.1), "
        "neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=10, in_channels=512)",
        "type='TimmClassifier', model_name='resnet10t', num_classes=10, loss=dict(type='CrossEntropyLoss')",
    ],
)
def test_what_a_network_hands_on_may_have_any_name(tmp_path, base, network):
    given = eval(f"dict({network})")
    assert load(tmp_path, NETWORK.format(base=base, network=network)).model.architecture.to_dict() == given


@pytest.mark.parametrize(
    "hook",
    [
        "type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL'",
        "type='mmengine.EMAHook', ema_type='MomentumAnnealingEMA', gamma=100",
        "type='VisualizationHook', enable=True, draw_score=False",
        "type='own_hooks.Keeps', colour=1, anything=2, priority='LOW'",
        "type='own_hooks.ToBase', colour=1, momentum=0.1",
    ],
)
def test_hooks_and_what_they_hand_on(tmp_path, monkeypatch, base, hook):
    (tmp_path / "own_hooks.py").write_text(
        "from mmengine.hooks import EMAHook, Hook\n\n"
        "class Keeps(Hook):\n    def __init__(self, colour, **kwargs):\n        self.kept = kwargs\n\n"
        "class ToBase(EMAHook):\n    def __init__(self, colour, **kwargs):\n        super().__init__(**kwargs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load(tmp_path, HOOKS.format(base=base, hook=hook)).custom_hooks == [eval(f"dict({hook})")]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("type='EMAHook', momentun=1e-4", "unknown key 'momentun' in custom_hooks.0 .did you mean 'momentum'"),
        ("type='EMAHook', ema_type='StochasticWeightAverage', momentum=0.1", "unknown key 'momentum'"),
        ("type='VisualizationHook', enabel=True", "did you mean 'enable'"),
    ],
)
def test_names_that_can_be_known_are_checked(tmp_path, base, hook, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, HOOKS.format(base=base, hook=hook))
