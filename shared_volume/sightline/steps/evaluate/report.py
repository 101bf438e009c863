"""The evaluate report: all candidates' scores, the selected one's curves and confusion, its best and worst images."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sightline.models.bundle import WEIGHTS, Bundle
from sightline.reports import page
from sightline.reports.charts import confusion_chart, grouped_bar_chart
from sightline.reports.pictures import Thumbnails, legend
from sightline.services.database.scores import ModelKind
from sightline.tasks.task import Confusion, ImageScore, Scores, Task

SHOWN_IMAGES = 8  # best, and as many worst
MOST_BARS = 24  # classes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to compare: its name in tables, where it comes from, and its verified bundle."""

    name: str
    kind: ModelKind
    uri: str
    folder: Path
    bundle: Bundle

    @property
    def config(self) -> str:
        """Name of the config that it was trained with; empty when its bundle does not say."""
        return str(self.bundle.facts.get("config", ""))

    @property
    def weights(self) -> str:
        """The weights' digest."""
        return self.bundle.files[WEIGHTS]


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate, what it found (COCO results), and how good that is."""

    candidate: Candidate
    results: Sequence[Mapping[str, Any]]
    scores: Scores


def render_evaluation_report(
    task: Task,
    dataset_dir: Path,
    split: str,
    compared: Sequence[Scored],
    chosen: Scored,
    confusion: Confusion,
    facts: Mapping[str, str],
    select_by: str,
) -> str:
    """The page for one evaluation, one self-contained HTML document under 5 MB.

    `chosen` is one of those that were `compared`, the best by the metric `select_by`, and `confusion` its own. The facts say
    what made it, for the page's head.
    """
    dataset = json.loads((dataset_dir / "dataset.json").read_bytes())
    coco = json.loads((dataset_dir / f"{split}.json").read_bytes())
    classes = dataset["classes"]
    note = f"Blue is right, red is wrong. {confusion.note}".strip()
    matrix = confusion_chart("Confusion matrix", confusion.labels, confusion.matrix, note=note)
    charts = [*task.report.charts(coco, chosen.results, classes), matrix]
    blocks = [
        _headline(task, chosen, len(coco["images"]), split, select_by),
        _candidates_section(task, compared, chosen, select_by),
        _classes_section(task, chosen, classes, coco, charts),
        _images_section(task, dataset_dir / "images", coco, chosen, classes),
    ]
    return page.render_page("Evaluate report", f"{dataset['category']} {dataset['version']} · {split}", facts, blocks)


def _headline(task: Task, chosen: Scored, images: int, split: str, select_by: str) -> Markup:
    values = chosen.scores.values
    names = dict.fromkeys([*task.facts.HEADLINES, select_by])
    shown = [page.Tile(name, page.score(values, name)) for name in names if name in values]
    selected = page.Tile("Selected model", chosen.candidate.name)
    return page.tiles(selected, *shown, page.Tile("Images", images, f"of {split}"))


def _candidates_section(task: Task, compared: Sequence[Scored], chosen: Scored, select_by: str) -> Markup:
    metrics = list(dict.fromkeys([select_by, *(name for one in compared for name in one.scores.values)]))
    headlines = [name for name in metrics if name in task.facts.HEADLINES or name == select_by]
    names = [f"{one.candidate.name} (selected)" if one is chosen else one.candidate.name for one in compared]
    models = [
        [name, *[page.score(one.scores.values, metric) for metric in headlines], one.candidate.uri]
        for name, one in zip(names, compared, strict=True)
    ]
    by_metric = [[name, *[page.score(one.scores.values, name) for one in compared]] for name in metrics]
    return page.section(
        "Candidates",
        page.table(["model", *headlines, "where"], models, {compared.index(chosen)}),
        page.details("Every score", page.table(["metric", *names], by_metric, {0})),
        intro=f"Selected by {select_by}.",
    )


def _classes_section(
    task: Task, chosen: Scored, classes: Sequence[str], coco: Mapping[str, Any], charts: list[Markup]
) -> Markup:
    per_class = chosen.scores.per_class
    annotated = Counter(annotation["category_id"] - 1 for annotation in coco["annotations"])
    metrics = dict.fromkeys(name for values in per_class.values() for name in values)
    scores = {name: [page.score(per_class.get(label, {}), name) for label in classes] for name in metrics}
    rows = zip(classes, [annotated[index] for index in range(len(classes))], *scores.values(), strict=True)
    charted = [name for name in task.facts.SHORTEST if name in metrics] or list(metrics)[:2]
    if charted and len(classes) <= MOST_BARS:
        bars = grouped_bar_chart("Score per class", classes, {name: scores[name] for name in charted}, "score")
        charts = [*charts, bars]
    columns = ["class", page.plural(task.facts.ANNOTATED), *metrics]
    return page.section("Classes", page.grid(*charts), page.table(columns, rows))


def _images_section(
    task: Task, images: Path, coco: Mapping[str, Any], chosen: Scored, classes: Sequence[str]
) -> Markup:
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    truth, found = _by_image(coco["annotations"]), _by_image(chosen.results)
    scores = {key: task.report.score_image(truth[key], found[key], classes) for key in names}
    most = min(SHOWN_IMAGES, (len(scores) + 1) // 2)
    thumbnails = Thumbnails(expected=4 * most)
    worst, best = _rank(scores, names, most)

    def shown(keys: Sequence[int]) -> Markup:
        """Truth and prediction of each image side by side, as far as it can be read and the page is not full."""
        pairs = []
        for key in keys:
            sure = task.draw.shown_of(found[key], task.report.SHOWN_SCORE)
            drawn = {"truth": truth[key], "prediction": sure}
            shapes = {shows: partial(task.draw.shapes_of, objects, classes) for shows, objects in drawn.items()}
            pairs.append(thumbnails.card(images / names[key], scores[key].note, names[key], **shapes))
        return page.gallery([pair for pair in pairs if pair])

    every = list(scores.values())
    charts = task.report.image_charts(every)
    return page.section(
        "Images",
        legend(classes),
        Markup("<h3>Worst</h3>"),
        shown(worst) if worst else page.notice("No mistake in any image.", kind="info"),
        Markup("<h3>Best</h3>"),
        shown(best) if best else page.notice("No other image has anything right."),
        *([page.grid(*charts)] if charts else []),
        intro=f"{task.report.RANKED_BY} All {page.counted(len(every), 'image')}: {task.report.sum_up(every)}.",
    )


def _rank(scores: Mapping[int, ImageScore], names: Mapping[int, str], most: int) -> tuple[list[int], list[int]]:
    """The images with the worst results, as far as these are wrong, and those with the best."""
    # Among equals the fuller image tells more: what was found for the best, errors made for the worst.
    wrong = [
        (one.f1, -one.sureness, -one.missed - one.false, names[key], key) for key, one in scores.items() if one.f1 < 1
    ]
    right = [(-one.f1, -one.sureness, -one.found, names[key], key) for key, one in scores.items() if one.f1 > 0]
    worst = [key for *_, key in sorted(wrong)[:most]]
    return worst, [key for *_, key in sorted(right) if key not in worst][:most]


def _by_image(objects: Sequence[Mapping[str, Any]]) -> Mapping[int, list[Mapping[str, Any]]]:
    by_image = defaultdict(list)
    for one in objects:
        by_image[one["image_id"]].append(one)
    return by_image
