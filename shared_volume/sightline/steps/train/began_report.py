"""The train report's section on the trained weights that a model began from."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sightline.models.weights.heads import new_classes
from sightline.reports import page

MOST = 0.999  # of what is not whole


def began_from(began: Mapping[str, Any], classes: Sequence[str]) -> Markup:
    """The section, of what `beginning.py` left in the work folder; `classes` are the model's."""
    theirs = began["classes"]
    told = [[f"{name.replace('_', ' ')}, as the file says", str(value)] for name, value in began["told"].items()]
    source = [*_source(began), *told, *_classes(classes, theirs)]
    blocks = [page.table(["what", ""], source), page.table(COLUMNS, _modules(began))]
    for title, columns, rows in (
        ("Reshaped, or taken in part", ["tensor of the model", "how"], began["reshaped"]),
        ("Left out of the file", ["tensor of the file", "why"], began["left"]),
        ("Not in the file: random at first", ["tensor of the model"], [[name] for name in began["missing"]]),
        ("What else the file holds", ["not read"], [[line] for line in began["skipped"]]),
    ):
        if rows:
            blocks.append(page.details(f"{title}: {page.number(len(rows))}", page.table(columns, rows)))
    return page.section("Began from", *blocks, intro=_intro(began, new_classes(classes, theirs) if theirs else ()))


COLUMNS = ("module", "from the weights", "parameters", "share")


def _intro(began: Mapping[str, Any], new: Sequence[str]) -> str:
    source = f"the model that was trained on {_dataset(began)}" if began["bundle"] else began["file_name"]
    said = f"{_percent(began['share'])} of the model's parameters began with values of {source}"
    if began["part"]:
        said += f", {_percent(began['share_of_part'])} of its {began['part']}"
    if began["share"] < 1:
        said += "; all others were random at first"
    return f"{said}. New among its classes: {', '.join(new)}." if new else f"{said}."


def _dataset(began: Mapping[str, Any]) -> str:
    """`plates v0.1.0`, as an earlier model's bundle says."""
    trained_on = began["trained_on"]
    return " ".join(str(trained_on[name]) for name in ("category", "dataset_version") if name in trained_on)


def _source(began: Mapping[str, Any]) -> list[list[str]]:
    if not began["bundle"]:
        return [["weights", began["origin"]], ["SHA-256", began["sha256"]]]
    trained_on = began["trained_on"]
    rows = [["earlier model", began["origin"]], ["trained on", _dataset(began)]]
    said = {"config": "config", "epoch": "after epoch"}
    rows += [[told, str(trained_on[name])] for name, told in said.items() if name in trained_on]
    if began["bundle"] not in began["origin"]:
        rows.append(["SHA-256", began["bundle"]])
    return rows


def _classes(classes: Sequence[str], theirs: Sequence[str] | None) -> list[list[str]]:
    """The rows on classes, where the file tells its own."""
    if theirs is None:
        return []
    gone = new_classes(theirs, classes)
    rows = [
        ["its classes", ", ".join(theirs)],
        ["new in this model", ", ".join(new_classes(classes, theirs)) or "none"],
    ]
    return [*rows, ["no longer in this model", ", ".join(gone)]] if gone else rows


def _modules(began: Mapping[str, Any]) -> list[list[object]]:
    return [[name, matched, size, _percent(matched / size)] for name, (matched, size) in began["modules"].items()]


def _percent(share: float) -> str:
    """A share as people read it: nothing that is lacking shows as 100 %."""
    return "100 %" if share == 1 else f"{min(share, MOST) * 100:.1f} %" if share else "none"
