"""The report of a network that was slimmed: plain data, and what its latencies say."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from pictures import bars, names, shown

from mmrazor_lite.slimming.report import GroupRow, Latency, Quality, Report, Stage
from mmrazor_lite.slimming.slim_page import slim_page, slim_sections


def report(latency: Latency | None = None) -> Report:
    stages = [
        Stage("original", Quality(90.0, 100.0, 0.0, 100)),
        Stage("cut", Quality(11.0, 12.0, math.inf, 100), 1.5),
        Stage("refit", Quality(88.0, 93.0, 0.05, 100), np.float64(3.0)),
    ]
    groups = [
        GroupRow("stem", ("stem.conv",), 16, 8, 8, (3.0, 1.0), 0.25, (1.0, 0.5, 0.0), 0.6, np.float32(0.5)),
        GroupRow("odd[name]", ("a", "b"), 32, 32, 4, (), 0.0, (), 0.4, 0.5),
    ]
    costs = {"original": {"macs": 1_000_000, "params": 5000}, "slimmed": {"macs": np.int64(500_000), "params": 2600}}
    return Report(
        "Net", (3, 32, 32), "macs 50%", stages, groups, costs, latency, ["head stays: its width is an output"]
    )


def times(original: float, slimmed: float, noise: float = 0.01) -> Latency:
    rng = np.random.default_rng(0)
    pair = [tuple(value * (1 + noise * rng.standard_normal(21))) for value in (original, slimmed)]
    return Latency(*pair, machine={"device": "cpu", "name": "a processor", "threads": 2, "batch_size": 1})


def test_it_is_plain_data_for_json():
    data = report(times(2.0, 1.0)).as_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["stages"][1]["held_out"]["distance"] is None  # infinity
    assert data["costs"]["slimmed"]["macs"] == 500_000
    assert data["latency"]["speedup"]["median"] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("slimmed", "says"),
    [(0.8, "2."), (2.9, "SLOWER than the original: takes 1."), (2.0, "no difference")],
)
def test_a_network_that_got_slower_is_called_so(slimmed, says):
    assert times(2.0, slimmed).verdict.startswith(says)


def test_what_slows_both_networks_down_for_a_while_does_not_change_the_ratio():
    busy = np.where(np.arange(21) % 3 == 0, 5.0, 1.0)
    latency = Latency(tuple(2.0 * busy), tuple(1.0 * busy), {})
    assert latency.speedup == pytest.approx((2, 2, 2))


def test_the_table_says_what_was_kept_and_where_accuracy_went(capsys):
    report(times(2.0, 3.0)).table()
    text = capsys.readouterr().out
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert "16 > 8" in lines["stem"] and "25.0%" in lines["stem"] and "60.0% > 50.0%" in lines["stem"]
    assert "│       32 │" in lines["odd[name]"], "a name with brackets is no markup; a width that stays is one number"
    assert "88.00% ± 3.3" in lines["refit"] and "93.00% ± 2.6" in lines["refit"]
    assert "1,000,000" in lines["macs"] and "500,000" in lines["macs"] and "50.0%" in lines["macs"]
    assert "SLOWER" in text and "2 threads" in text and "a processor" in text
    assert "head stays: its width is an output" in text
    assert str(report(times(2.0, 3.0))).splitlines()[0] == text.splitlines()[0]


@pytest.mark.parametrize(("percent", "images", "shown"), [(100, 12, "± 5.3"), (0, 12, "± 5.3"), (50, 1000, "± 1.6")])
def test_all_of_few_images_is_not_certain(capsys, percent, images, shown):
    stages = [Stage("original", Quality(None, 100.0, 0.0, images)), Stage("cut", Quality(None, percent, 0.5, images))]
    dataclasses.replace(report(), stages=stages).table()
    assert f"{percent:.2f}% {shown}" in capsys.readouterr().out


def test_in_one_line(tmp_path):
    told = repr(report(times(2.0, 1.0)))
    assert told.startswith("Report(") and "50.0% of the macs, accuracy 88.00% on" in told and len(told) < 200
    assert repr(Report("Net", (3, 8, 8), "x", [], [], {"original": {"macs": 0}, "slimmed": {"macs": 0}}))


def test_what_went_as_a_gain_is_no_share(capsys):
    groups = [GroupRow("gain", ("c",), 8, 4, 4, (1.0, -0.1), 0.0), GroupRow("whole", ("d",), 8, 8, 8, (1.0,), 0.0)]
    dataclasses.replace(report(), groups=groups).table()
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    assert "│       0.0% │" in lines["gain"] and "│            │" in lines["whole"]


def test_what_was_not_measured_is_no_column(capsys):
    """Without labels, of outputs that are no class scores."""
    stages = [Stage("original", Quality(None, None, 0.0, 10)), Stage("cut", Quality(None, None, 0.5, 10))]
    plain = dataclasses.replace(report(), stages=stages)
    plain.table()
    text = capsys.readouterr().out
    assert not [word for word in ("accuracy  ", "accuracy ┃", "agrees", "latency") if word in text]
    assert "distance" in text and "0.5" in text


def test_images_that_were_not_held_out_are_not_called_so(capsys):
    few = dataclasses.replace(report(), is_held_out=False)
    few.table()
    page = slim_page(few)
    texts = [capsys.readouterr().out, page.lead, *(part.text for part in page.sections if part.name == "stages")]
    assert all("that the steps worked with" in text and "nothing was fitted to" not in text for text in texts)
    assert few.as_dict()["is_held_out"] is False and report().as_dict()["is_held_out"] is True


def test_the_picture_has_the_charts_of_the_page(tmp_path):
    with shown() as axes:
        report(times(2.0, 1.0)).plot(tmp_path / "new/picture.png")
    assert (tmp_path / "new/picture.png").read_bytes()[:4] == b"\x89PNG"
    sections = [part for part in slim_sections(report(times(2.0, 1.0))) if part.chart is not None]
    assert [part.name for part in sections] == ["widths", "macs", "losses", "stages", "time", "latency"]
    assert len(axes) == len(sections)
    widths, _, curves, *_ = axes
    assert bars(widths) == [[16, 32], [8, 32]] and names(widths) == ["stem", "odd[name]"]
    (line,) = curves.get_lines()
    assert line.get_xdata().tolist() == [0, 50], "a loss of nothing has no place on this axis"
    assert line.get_ydata().tolist() == [1.0, 0.5]


def test_the_page_says_what_the_report_says():
    page = slim_page(report(times(2.0, 1.0)), "mmrazor-lite slim x", [("slimmed.pth", "the weights")])
    facts = {fact.label: fact.value for fact in page.facts}
    assert facts["macs"] == "500k" and facts["accuracy"] == "88.00%" and facts["time"] == "4.5 s"
    assert [one.name for one in page.outcomes] == ["original", "slimmed"] and page.outcomes[1].file == "slimmed.pth"
    assert dict(page.outcomes[1].costs)["macs"] == 500_000 and dict(page.outcomes[1].scores)["accuracy (%)"] == 88
    parts = {part.name: part for part in page.sections}
    assert parts["widths"].table.rows[0] == ("stem", 16, 8, "25.0%", "stem.conv")
    assert parts["macs"].chart.values == (("before", (600_000, 400_000)), ("after", (250_000, 250_000)))
    assert dict(parts["stages"].chart.values)["accuracy"] == (90, 11, 88)
    assert dict(parts["time"].chart.values)["seconds"] == (1.5, 3)
    assert parts["notes"].table.rows == (("head stays: its width is an output",),)
    assert ("command", "mmrazor-lite slim x") in parts["settings"].table.rows
    assert parts["files"].table.links == ("slimmed.pth",)


def test_the_page_of_distances_alone(tmp_path):
    stages = [Stage("original", Quality(None, None, 0.0, 4)), Stage("cut", Quality(None, None, math.inf, 4))]
    page = slim_page(dataclasses.replace(report(), stages=stages))
    (drawn,) = [part.chart for part in page.sections if part.name == "stages"]
    assert drawn.unit == "distance to the original" and drawn.values == (("distance", (0, None)),)
    empty = slim_page(Report("Net", (3, 8, 8), "x", [], [], {}))
    assert [part.name for part in empty.sections] == ["settings"]
