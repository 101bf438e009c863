"""The train report's section on the run's training that this one went on from."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from sightline.reports import page

UNFOLDED = 12  # differences that are shown without a click


def went_on_from(went_on: Mapping[str, Any]) -> Markup:
    """The section, of what `origin.py` left in the work folder."""
    rows = [["checkpoint", went_on["origin"]], ["SHA-256", went_on["sha256"]]]
    rows += [["its last model", went_on["bundle"]]] if went_on["bundle"] else []
    rows += [["its dataset version", went_on["dataset_version"]]]
    differs = went_on["differs"]
    table = page.table(["what", "before", "now"], differs)
    title = f"What differs: {page.number(len(differs))}"
    blocks = [page.table(["what", ""], rows), page.details(title, table, unfolded=len(differs) <= UNFOLDED)]
    return page.section("Went on from", *blocks, intro=_intro(went_on))


def _intro(went_on: Mapping[str, Any]) -> str:
    said = f"Up to iteration {page.number(went_on['iter'])} the history is that of the run {went_on['run']}. "
    if went_on["again"]:
        said += "An epoch that was cut off began anew, as it has other batches now. "
    if went_on["best_carried"]:
        return f"{said}The best epoch may be one of that run."
    return f"{said}Its scores do not compare with those after it, so the best epoch is one of this run."
