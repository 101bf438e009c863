"""The evaluate report: all candidates' scores, the selected one's curves and confusion, its best and worst images."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from sightline.reports import page
from sightline.reports.charts import confusion_chart, grouped_bar_chart
from sightline.reports.pictures import Thumbnails, legend, try_open
from sightline.tasks.task import Confusion, ImageScore, Task

SHOWN_IMAGES = 8  # best, and as many worst
MOST_BARS = 24  # classes


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """One compared model.

    Attributes:
        name: best, last, or what the user called it.
        uri: its bundle's.
        scores: metric -> value; -1 or nan where the split has no such object.
        per_class: class -> metric -> value.
    """

    name: str
    uri: str
    scores: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def render_evaluation_report(
    task: Task,
    dataset_dir: Path,
    split: str,
    candidates: Sequence[CandidateResult],
    selected: str,
    results: Sequence[Mapping[str, Any]],
    confusion: Confusion,
    facts: Mapping[str, str],
    select_by: str = "",
) -> str:
    """The page for one evaluation, one self-contained HTML document under 5 MB.

    Args:
        task: what its results are.
        dataset_dir: the dataset version's.
        split: the evaluated one.
        candidates: all compared models.
        selected: name of the chosen one.
        results: its results on the split.
        confusion: which class it took for which.
        facts: what made it, name -> value, for the page's head.
        select_by: the metric that decided.
    """
    dataset = json.loads((dataset_dir / "dataset.json").read_bytes())
    coco = json.loads((dataset_dir / f"{split}.json").read_bytes())
    classes = dataset["classes"]
    chosen = next(candidate for candidate in candidates if candidate.name == selected)
    note = f"Blue is right, red is wrong. {confusion.note}".strip()
    matrix = confusion_chart("Confusion matrix", confusion.labels, confusion.matrix, note=note)
    blocks = [
        _headline(task, chosen, len(coco["images"]), split, select_by),
        _candidates_section(task, candidates, chosen, select_by),
        _classes_section(task, chosen, classes, coco, [*task.report.charts(coco, results, classes), matrix]),
        _images_section(task, dataset_dir, coco, results, classes),
    ]
    title = f"{dataset['category']} {dataset['version']} · {split}"
    return page.render_page("Evaluate report", title, facts, [block for block in blocks if block])


def _score(values: Mapping[str, float], name: str) -> float | None:
    value = values.get(name)
    return None if value is None or value == -1 or not np.isfinite(value) else float(value)


def _headline(task: Task, chosen: CandidateResult, images: int, split: str, select_by: str) -> Markup:
    names = dict.fromkeys([*task.facts.HEADLINES, select_by])
    shown = [page.Tile(name, _score(chosen.scores, name)) for name in names if name in chosen.scores]
    return page.tiles(page.Tile("Selected model", chosen.name), *shown, page.Tile("Images", images, f"of {split}"))


def _candidates_section(
    task: Task, candidates: Sequence[CandidateResult], chosen: CandidateResult, select_by: str
) -> Markup:
    metrics = list(dict.fromkeys(name for candidate in candidates for name in candidate.scores))
    if select_by in metrics:
        metrics = [select_by, *[name for name in metrics if name != select_by]]
    by_metric = [[name, *[_score(candidate.scores, name) for candidate in candidates]] for name in metrics]
    headlines = [name for name in metrics if name in task.facts.HEADLINES or name == select_by]
    names = [f"{one.name} (selected)" if one is chosen else one.name for one in candidates]
    models = [
        [name, *[_score(one.scores, metric) for metric in headlines], one.uri]
        for name, one in zip(names, candidates, strict=True)
    ]
    chosen_rows = {index for index, one in enumerate(candidates) if one is chosen}
    return page.section(
        "Candidates",
        page.table(["model", *headlines, "where"], models, chosen_rows),
        page.details("Every score", page.table(["metric", *names], by_metric, {0} if select_by in metrics else ())),
        intro=f"Selected by {select_by}." if select_by else "",
    )


def _classes_section(
    task: Task, chosen: CandidateResult, classes: Sequence[str], coco: Mapping[str, Any], charts: Sequence[Markup]
) -> Markup:
    annotated = Counter(annotation["category_id"] - 1 for annotation in coco["annotations"])
    metrics = list(dict.fromkeys(name for values in chosen.per_class.values() for name in values))
    rows = [
        [label, annotated[index], *[_score(chosen.per_class.get(label, {}), name) for name in metrics]]
        for index, label in enumerate(classes)
    ]
    charted = [name for name in task.facts.SHORTEST if name in metrics] or metrics[:2]
    bars = []
    if charted and len(classes) <= MOST_BARS:
        values = {
            name: [
                math.nan if (score := _score(chosen.per_class.get(label, {}), name)) is None else score
                for label in classes
            ]
            for name in charted
        }
        bars.append(grouped_bar_chart("Score per class", classes, values, "score"))
    return page.section(
        "Classes", page.grid(*charts, *bars), page.table(["class", page.plural(task.facts.ANNOTATED), *metrics], rows)
    )


def _images_section(
    task: Task, dataset_dir: Path, coco: Mapping[str, Any], results: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> Markup:
    if not coco["images"]:
        return page.section("Images", page.notice("This split has no image."))
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    truth, found = (_by_image(objects, names) for objects in (coco["annotations"], results))
    scores = {key: task.report.score_image(truth[key], found[key], classes) for key in names}
    most = min(SHOWN_IMAGES, (len(scores) + 1) // 2)
    thumbnails = Thumbnails(expected=4 * most)
    worst, best = _rank(scores, names, most)

    def shown(keys: Sequence[int]) -> Markup:
        """Truth and prediction of each image side by side, as far as it can be read and the page is not full."""
        pairs = []
        for key in keys:
            if picture := try_open(dataset_dir / "images" / names[key]):
                sure = task.draw.shown_of(found[key], task.report.SHOWN_SCORE)
                left, right = (
                    thumbnails.add(picture, task.draw.shapes_of(objects, classes, picture.size))
                    for objects in (truth[key], sure)
                )
                if left and right:
                    pairs.append(page.Picture(names[key], scores[key].note, ((left, "truth"), (right, "prediction"))))
        return page.gallery(pairs)

    every = list(scores.values())
    charts = task.report.image_charts(every)
    intro = f"{task.report.RANKED_BY} All {page.counted(len(every), 'image')}: {task.report.sum_up(every)}."
    return page.section(
        "Images",
        legend(classes),
        Markup("<h3>Worst</h3>"),
        shown(worst) if worst else page.notice("No mistake in any image.", kind="info"),
        Markup("<h3>Best</h3>"),
        shown(best) if best else page.notice("No other image has anything right."),
        *([page.grid(*charts)] if charts else []),
        intro=intro,
    )


def _rank(scores: Mapping[int, ImageScore], names: Mapping[int, str], most: int) -> tuple[list[int], list[int]]:
    """The images with the worst results, as far as these are wrong, and those with the best."""

    # Among equals the fuller image tells more: what was found for the best, errors made for the worst.
    def worst_first(key: int) -> tuple[float, float, int, str]:
        return scores[key].f1, -scores[key].sureness, -scores[key].missed - scores[key].false, names[key]

    def best_first(key: int) -> tuple[float, float, int, str]:
        return -scores[key].f1, -scores[key].sureness, -scores[key].found, names[key]

    worst = [key for key in sorted(scores, key=worst_first) if scores[key].f1 < 1][:most]
    return worst, [key for key in sorted(scores, key=best_first) if scores[key].f1 > 0 and key not in worst][:most]


def _by_image(objects: Sequence[Mapping[str, Any]], images: Iterable[int]) -> dict[int, list[Mapping[str, Any]]]:
    by_image: dict[int, list[Mapping[str, Any]]] = {image: [] for image in images}
    for one in objects:
        by_image[one["image_id"]].append(one)
    return by_image
