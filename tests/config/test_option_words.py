"""Words of options that need no quotes."""

from __future__ import annotations

import pytest

from mmrazor_lite.config.overrides import parse
from mmrazor_lite.errors import UserError


def test_words_with_dots_and_slashes():
    found = parse(["hook=dict(type=EarlyStoppingHook,monitor=max_subnet.accuracy/top1)", "files=[dict(name=a/b.png)]"])
    assert found["hook"] == {"type": "EarlyStoppingHook", "monitor": "max_subnet.accuracy/top1"}
    assert found["files"] == [{"name": "a/b.png"}]


@pytest.mark.parametrize("text", ["dict(a=b+c)", "dict(a=1/2)", "dict(a=f(x).y)"])
def test_what_would_be_computed_is_refused(text):
    with pytest.raises(UserError, match="cannot be read"):
        parse([f"hook={text}"])
