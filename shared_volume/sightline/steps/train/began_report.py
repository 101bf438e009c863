"""The train report's section on the trained weights that a model began from."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sightline.models.weights.heads import plain_name
from sightline.reports import page

MOST = 0.999  # of what is not whole


def began_from(began: Mapping[str, Any], classes: Sequence[str]) -> Markup:
    """The section, of what `beginning.py` left in the work folder; `classes` are the model's."""
    blocks = [page.table(["what", ""], _source(began, classes)), page.table(COLUMNS, _modules(began))]
    left = [[source, reason] for source, reason in began["left"]]
    for title, columns, rows in (
        ("Reshaped", ["tensor of the model", "how"], began["reshaped"]),
        ("Left out of the file", ["tensor of the file", "why"], left),
        ("Not in the file: random at first", ["tensor of the model"], [[name] for name in began["missing"]]),
        ("What else the file holds", ["not read"], [[line] for line in began["skipped"]]),
    ):
        if rows:
            blocks.append(page.details(f"{title}: {page.number(len(rows))}", page.table(columns, rows)))
    return page.section("Began from", *blocks, intro=_intro(began))


COLUMNS = ("module", "from the weights", "parameters", "share")


def _intro(began: Mapping[str, Any]) -> str:
    said = f"{_percent(began['share'])} of the model's parameters began with values of {began['file_name']}"
    if began["part"]:
        said += f", {_percent(began['share_of_part'])} of its {began['part']}"
    return f"{said}; all others were random."


def _source(began: Mapping[str, Any], classes: Sequence[str]) -> list[list[str]]:
    rows = [["weights", began["origin"]], ["SHA-256", began["sha256"]]]
    if began["bundle"]:
        trained_on = began["trained_on"]
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in trained_on.items())
        rows += [["model of ours", began["bundle"]], ["which was trained on", told]]
    rows += [[f"{name.replace('_', ' ')}, as the file says", str(value)] for name, value in began["told"].items()]
    theirs = began["classes"]
    if theirs is not None:
        known = set(map(plain_name, theirs))
        kept = [name for name in classes if plain_name(name) in known]
        new = [name for name in classes if plain_name(name) not in known]
        rows += [["its classes", ", ".join(theirs)], ["of these in this model", ", ".join(kept) or "none"]]
        rows += [["new in this model", ", ".join(new) or "none"]]
    return rows


def _modules(began: Mapping[str, Any]) -> list[list[object]]:
    return [[name, matched, size, _percent(matched / size)] for name, (matched, size) in began["modules"].items()]


def _percent(share: float) -> str:
    """A share as people read it: nothing that is lacking shows as 100 %."""
    return "100 %" if share == 1 else f"{min(share, MOST) * 100:.1f} %" if share else "none"
