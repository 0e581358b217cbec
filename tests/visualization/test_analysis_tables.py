"""Tables of an analysis: what is shown, shortened and sorted."""

from __future__ import annotations

import pytest
from torch import nn
from zoo import prepare

from mmrazor_lite.estimators import analyse
from mmrazor_lite.visualization import show_analysis
from mmrazor_lite.visualization.analysis_tables import bar, short


class Chain(nn.Sequential):
    """Ten convs of growing width; every one but the last can be slimmed."""

    def __init__(self) -> None:
        super().__init__(*(nn.Conv2d(3 if i == 0 else 4 * i, 4 * i + 4, 1) for i in range(10)))


@pytest.fixture(scope="module")
def analysis():
    twin = prepare(Chain(), (3, 8, 8), candidate_choices=[0.5, 1.0], divisor=2)
    return analyse(twin.mutator, twin.model, (3, 8, 8))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (1234567, "1.23M"),
        (99_950, "100k"),
        (999_600, "1.00M"),
        (25e9, "25.0G"),
    ],
)
def test_short_numbers(number, text):
    assert short(int(number)) == text


def test_bars():
    assert bar(100, 25, 100) == "█" * 5 + "░" * 15
    assert bar(1, 0, 100) == "░"
    assert bar(0, 0, 100) == ""
    assert bar(50, 50, 100) == "█" * 10


def rows(capsys, analysis, *options: object) -> list[str]:
    """Names of the layers in the table of costs."""
    show_analysis(analysis, *options)
    table = capsys.readouterr().out.partition("Cost per layer")[2].partition("all layers")[0]
    return [line.split()[1] for line in table.splitlines() if " conv " in line]


def test_order_and_length_of_the_table(capsys, analysis):
    names = [str(i) for i in range(10)]
    assert rows(capsys, analysis) == names
    assert rows(capsys, analysis, "macs") == names[::-1]
    assert rows(capsys, analysis, "macs", 3) == ["9", "8", "7"]
    show_analysis(analysis, "macs", 3)
    assert "... 7 more" in capsys.readouterr().out


def test_all_of_it_is_there(capsys, analysis):
    show_analysis(analysis)
    text = capsys.readouterr().out
    first, *_ = text.splitlines()
    assert first.startswith("Chain, input 1x3x8x8: 9 width choices, 10^2.7 subnets, 100.0% of the macs searchable")
    assert "the model's output: 9" in text
    assert "8 > 4 #2" in text  # the second layer: its width, and the group that sets it
    for extent in analysis.resources.values():
        assert f"{extent.max:,}" in text and f"{extent.min:,}" in text


def test_long_lists_are_cut_unless_asked_for(capsys):
    twin = prepare(Chain(), (3, 8, 8), exclude=["*"])
    analysis = analyse(twin.mutator, twin.model, (3, 8, 8))
    show_analysis(analysis)
    assert "excluded by '*': 0, 1, 2, 3, 4, 5, and 3 more" in capsys.readouterr().out
    show_analysis(analysis, full=True)
    assert "excluded by '*': 0, 1, 2, 3, 4, 5, 6, 7, 8\n" in capsys.readouterr().out
