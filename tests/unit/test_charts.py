"""Charts: what they say, in numbers that a reader would look at."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from sightline.reports.charts import (
    Series,
    bar_chart,
    compared_histogram,
    confusion_chart,
    grouped_bar_chart,
    histogram,
    line_chart,
)
from sightline.reports.drawing import nice_ticks
from sightline.reports.page import PALETTE, colour
from sightline.tasks.detection.report import charts as precision_recall_charts

HOSTILE = '<script>alert("x")</script>'


def drawing(chart: str) -> ElementTree.Element:
    """The chart's SVG as a tree; it has to be well-formed."""
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", chart, re.DOTALL)[0])


def texts(chart: str) -> list[str]:
    return [element.text or element[0].tail or "" for element in drawing(chart).iter("text")]


def tooltips(chart: str) -> list[str]:
    return [element.text or "" for element in drawing(chart).iter("title")]


def every_number(chart: str) -> list[float]:
    places = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"}
    return [float(value) for element in drawing(chart).iter() for name, value in element.items() if name in places]


@pytest.mark.parametrize(
    ("low", "high", "about", "whole", "expected"),
    [
        (0, 1, 5, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 1, 4, False, [0, 0.25, 0.5, 0.75, 1]),
        (1, 30, 6, True, [5, 10, 15, 20, 25, 30]),
        (0, 3, 6, True, [0, 1, 2, 3]),
        (0, 0.00031, 3, False, [0, 0.0002]),
        (-1, 1, 4, False, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_within_the_limits(low, high, about, whole, expected):
    assert nice_ticks(low, high, about, whole) == pytest.approx(expected)


def test_a_line_chart_names_its_curves_axes_and_values():
    chart = line_chart(
        "Scores", [Series("box AP", [1, 2], [0.1, 0.4]), Series("mask AP", [1, 2], [0.2, 0.5])], "epoch", "score"
    )
    assert "Scores" in chart
    assert {"epoch", "score"} <= set(texts(chart))
    assert "box AP: 0.400 at 2" in tooltips(chart)
    legend = re.search(r'<ul class="legend">.*?</ul>', chart)[0]
    assert "box AP" in legend and "mask AP" in legend


def test_a_higher_value_is_drawn_higher_and_within_the_chart():
    chart = line_chart("Loss", [Series("loss", [1, 2, 3], [2.0, 1.0, 3.0])], "iteration", "loss")
    first, second, third = (float(dot.get("cy")) for dot in drawing(chart).iter("circle"))
    assert third < first < second
    width, height = (float(value) for value in drawing(chart).get("viewBox").split()[2:])
    assert all(0 <= value <= max(width, height) for value in every_number(chart))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_break_the_line_and_nothing_else(bad):
    chart = line_chart("Loss", [Series("loss", [1, 2, 3, 4], [1.0, bad, 0.5, 0.4])], "iteration", "loss")
    assert drawing(chart).find("path").get("d").count("M") == 2
    assert "nan" not in chart and "inf" not in chart


def test_a_long_curve_is_averaged_down_and_keeps_its_course():
    chart = line_chart("Loss", [Series("loss", range(50_000), np.linspace(5, 1, 50_000))], "iteration", "loss")
    assert len(chart) < 20_000
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", drawing(chart).find("path").get("d"))]
    assert heights == sorted(heights)


@pytest.mark.parametrize(
    "chart",
    [
        line_chart("Nothing", [], "x", "y"),
        line_chart("Nothing", [Series("loss", [1], [math.nan])], "x", "y"),
        histogram("Nothing", [], "x", "y"),
        grouped_bar_chart("Nothing", [], {}, "x"),
        bar_chart("Nothing", ["a"], [0], "x"),
        confusion_chart("Nothing", ["a"], np.zeros((1, 1))),
    ],
)
def test_a_chart_without_values_says_so(chart):
    assert "No values" in chart


@pytest.mark.parametrize(
    "chart",
    [
        line_chart("One", [Series("loss", [1], [0.0])], "x", "y"),
        line_chart("Flat", [Series("loss", [1, 2], [0.0, 0.0])], "x", "y"),
        histogram("One", [5.0], "x", "y"),
        histogram("Same", [0.0, 0.0], "x", "y"),
    ],
)
def test_a_single_value_still_has_a_scale(chart):
    assert all(math.isfinite(value) for value in every_number(chart))


def test_bars_are_as_long_as_their_values_and_carry_them():
    chart = bar_chart("Objects", ["plate", "digit"], [10, 40], "objects")
    plate, digit = (float(bar.get("width")) for bar in drawing(chart).iter("rect"))
    assert digit == pytest.approx(4 * plate, rel=0.01)
    assert {"plate", "digit", "10", "40"} <= set(texts(chart))


def test_grouped_bars_tell_label_group_and_value():
    chart = grouped_bar_chart("Objects", ["plate"], {"train": [7], "val": [math.nan]}, "objects")
    assert "plate, train: 7" in tooltips(chart)
    assert "plate, val: –" in tooltips(chart)


def test_a_histogram_counts_every_value_once():
    chart = histogram("Sizes", [1, 1, 2, 9], "side", "objects", bins=4)
    assert sum(int(told.split(": ")[1]) for told in tooltips(chart)) == 4


def precision_recall(*names: str) -> str:
    """The curves of a split with one object, of the first class, that was found as it is."""
    box = [10.0, 10.0, 20.0, 20.0]
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 400.0, "iscrowd": 0}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}]
    (chart,) = precision_recall_charts(truth, results, ["a", "b", "c", *names])
    return chart


def test_precision_recall_leaves_out_what_is_not_defined():
    chart = precision_recall("plate", "sticker")
    assert tooltips(chart) == ["plate (1.000)"]
    assert "sticker" not in chart
    assert colour(3) in chart


def test_the_confusion_matrix_shows_its_counts_and_tells_right_from_wrong():
    chart = confusion_chart("Confusion", ["plate", "background"], np.array([[8, 2], [0, 0]]))
    assert {"8", "2", "plate", "background"} <= set(texts(chart))
    kinds = {cell.get("class"): cell[0].text for cell in drawing(chart).iter("rect") if len(cell)}
    assert kinds == {
        "right-cell": "truth plate, found as plate: 8 (80% of the row)",
        "wrong-cell": "truth plate, found as background: 2 (20% of the row)",
    }


def test_a_large_confusion_matrix_scrolls_in_its_own_box_with_cells_that_can_be_read():
    labels = [f"class {index}" for index in range(40)]
    chart = confusion_chart("Confusion", labels, np.eye(40))
    assert 'class="scroll"' in chart
    cells = [cell for cell in drawing(chart).iter("rect") if cell.get("class") == "right-cell"]
    assert min(float(cell.get("width")) for cell in cells) > 25


def test_hostile_names_are_shown_as_text():
    charts = [
        line_chart(
            HOSTILE, [Series(HOSTILE, [1, 2], [1, 2]), Series("b", [1, 2], [1, 2])], HOSTILE, HOSTILE, note=HOSTILE
        ),
        grouped_bar_chart(HOSTILE, [HOSTILE], {HOSTILE: [1]}, HOSTILE),
        confusion_chart(HOSTILE, [HOSTILE, "b"], np.ones((2, 2))),
        precision_recall(HOSTILE),
    ]
    for chart in charts:
        assert "<script" not in chart
        assert 'alert("' not in chart
        drawing(chart)


def test_colours_differ_and_never_change_with_the_number_of_classes():
    many = [colour(index) for index in range(80)]
    assert len(set(many)) == 80
    assert many[: len(PALETTE)] == PALETTE
    assert PALETTE[0] == "#3b82f6"


@pytest.mark.parametrize(
    ("edges", "options", "first"),
    [
        pytest.param([0, 10, 20], {}, "0 to 10: 3 train (75.0 %), 0 val (0.0 %)", id="even"),
        pytest.param([0.0, 1.0, 90509.7], {"doubling": True}, "0 to 1: 3 train (75.0 %), 0 val (0.0 %)", id="doubling"),
        pytest.param([0, 1, 2], {"whole": True}, "0: 3 train (75.0 %), 0 val (0.0 %)", id="counts"),
    ],
)
def test_groups_are_compared_as_shares_of_their_own(edges, options, first):
    chart = compared_histogram("Size", edges, {"train": [3, 1], "val": [0, 2], "test": [0, 0]}, "px", "%", **options)
    assert tooltips(chart)[2].startswith(first)
    outlines = [one for one in drawing(chart).iter("path") if one.get("class") == "curve"]
    assert [one.get("stroke") for one in outlines] == list(PALETTE[:2])  # a group of nothing is not drawn
    width, height = (float(value) for value in drawing(chart).get("viewBox").split()[2:])
    assert all(0 <= value <= max(width, height) for value in every_number(chart))


def test_groups_without_values_say_so():
    assert "No values" in compared_histogram("Size", [], {"train": []}, "px", "%")
    assert "No values" in compared_histogram("Size", [0, 1], {"train": [0]}, "px", "%")


def test_a_histogram_of_shares_goes_from_0_to_1_though_all_are_0():
    drawn = str(histogram("F1", [0.0, 0.0], "F1", "images", limits=(0, 1)))
    assert "-0." not in re.sub(r"<path[^>]*>", "", drawn) and ">1</text>" in drawn
