from __future__ import annotations

import pickle

import numpy as np
import pytest

from mmrazor_lite.subnet import Subnet


def test_equal_subnets_have_one_hash_whatever_the_order_and_type() -> None:
    a, b = Subnet({"x": 8, "y": "conv"}), Subnet({"y": np.str_("conv"), "x": np.int64(8)})
    assert a == b and hash(a) == hash(b) and len({a, b}) == 1
    assert a != Subnet({"x": 8, "y": "pool"}) and a != Subnet({"x": 8})
    assert [type(value) for value in b.to_dict().values()] == [str, int]


def test_it_cannot_be_changed() -> None:
    subnet = Subnet({"x": 8})
    with pytest.raises(TypeError):
        subnet["x"] = 9  # type: ignore[index]
    with pytest.raises(AttributeError, match="cannot be changed"):
        subnet._choices = {}
    subnet.to_dict()["x"] = 9
    assert subnet["x"] == 8


def test_pickle_and_repr() -> None:
    subnet = Subnet({f"c{i}": i for i in range(30)})
    assert pickle.loads(pickle.dumps(subnet)) == subnet
    assert repr(subnet) == "Subnet(c0=0, c1=1, c2=2, and 27 more)"
    assert repr(Subnet({"x": 8})) == "Subnet(x=8)"
