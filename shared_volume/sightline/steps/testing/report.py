"""What testing shows: each image at its full size with what was found, and the report with a gallery, speed, scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from sightline.errors import SightlineError
from sightline.reports import page
from sightline.reports.charts import bar_chart, histogram
from sightline.reports.pictures import Thumbnails, draw_shapes, legend, open_picture
from sightline.tasks.task import Task

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
# Full colour resolution: thin coloured lines would fade without.
OPTIONS: dict[str, dict[str, int]] = {"JPEG": {"quality": 90, "subsampling": 0}, "PNG": {}}
MOST_CHARTED_CLASSES = 30

Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TestedImage:
    """One image that the model looked at: what a reader knows it by, what was found on it, and how long that took."""

    __test__ = False  # pytest: this is no test

    name: str
    path: Path
    results: Results
    milliseconds: float


def draw_predictions(
    task: Task, image_path: Path, results: Results, classes: Sequence[str], target_path: Path, score_threshold: float
) -> None:
    """Write the upright image with masks, boxes, classes and scores; results below the threshold are not drawn.

    The results are in pixels of the upright image. The target is .jpg, .jpeg or .png; missing folders are made. A SightlineError
    where the image cannot be read, or the target has another extension.
    """
    kind = FORMATS.get(target_path.suffix.lower())
    if kind is None:
        raise SightlineError(f"{target_path}: drawn images are {', '.join(FORMATS)}, not {target_path.suffix!r}.")
    picture = open_picture(image_path)
    shown = task.draw.shown_of(results, score_threshold)
    drawn = draw_shapes(picture, task.draw.shapes_of(shown, classes, picture.size))
    target_path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(target_path, kind, **OPTIONS[kind])


def render_test_report(
    task: Task, images: Sequence[TestedImage], classes: Sequence[str], facts: Mapping[str, str], score_threshold: float
) -> str:
    """The page for one test, one self-contained HTML document under 5 MB: of many images as many are shown as fit.

    The facts say what made it, for the page's head; results below the threshold are neither drawn nor counted.
    """
    scores = [result["score"] for image in images for result in task.draw.shown_of(image.results, 0.0)]
    shown = [task.draw.shown_of(image.results, score_threshold) for image in images]
    blocks = [page.notice("There was no image to test.")]
    if images:
        times = histogram("Time per image", [image.milliseconds for image in images], "ms", "images")
        charts = page.grid(*_charts(task, shown, scores, classes, score_threshold), times)
        blocks = [
            _headline(task, images, shown, score_threshold),
            *([] if any(shown) else [page.notice(_nothing_shown(task, scores, score_threshold))]),
            page.section(f"{page.plural(task.facts.FOUND).capitalize()} and speed", charts),
            _gallery_section(task, images, shown, classes),
        ]
    title = page.title_from(facts, ("category", "images"), "Test")
    return page.render_page("Test report", title, facts, blocks)


def _nothing_shown(task: Task, scores: Sequence[float], score_threshold: float) -> str:
    found = page.plural(task.facts.FOUND)
    if not scores:
        return f"The model gave no {found} at all: it has learnt too little. Train longer (--epochs)."
    return (
        f"No {found} from score {score_threshold:g}: the best score is {max(scores):.2g}. A lower --score-threshold shows more; "
        "a model that is trained longer (--epochs) gives higher scores."
    )


def _headline(task: Task, images: Sequence[TestedImage], shown: Sequence[Results], score_threshold: float) -> Markup:
    empty = sum(not results for results in shown)
    median, late = np.percentile([image.milliseconds for image in images], [50, 95])
    return page.tiles(
        page.Tile("Images", len(images), f"{page.number(empty)} without {page.plural(task.facts.FOUND)}"),
        page.Tile(page.plural(task.facts.FOUND).capitalize(), sum(map(len, shown)), f"from score {score_threshold:g}"),
        page.Tile("Median per image", f"{median:.0f} ms"),
        page.Tile("95 % within", f"{late:.0f} ms"),
    )


def _charts(
    task: Task, shown: Sequence[Results], scores: Sequence[float], classes: Sequence[str], score_threshold: float
) -> list[Markup]:
    counts = Counter(result["category_id"] - 1 for results in shown for result in results)
    found, charted = page.plural(task.facts.FOUND), classes[:MOST_CHARTED_CLASSES]
    title = f"{found.capitalize()} per class, from score {score_threshold:g}"
    note = f"The first {len(charted)} of {len(classes)} classes." if len(charted) < len(classes) else ""
    return [
        bar_chart(title, charted, [counts[index] for index in range(len(charted))], found, note),
        histogram(f"Scores of all {found}", scores, "score", found, bins=25),
    ]


def _gallery_section(
    task: Task, images: Sequence[TestedImage], shown: Sequence[Results], classes: Sequence[str]
) -> Markup:
    thumbnails = Thumbnails(expected=len(images))
    pictures: list[page.Picture] = []
    for image, results in zip(images, shown, strict=True):
        note = f"{task.draw.caption(results, classes, task.facts.FOUND)}, {image.milliseconds:.0f} ms"
        predictions = partial(task.draw.shapes_of, results, classes)
        if not (card := thumbnails.card(image.path, note, image.name, predictions=predictions)):
            break  # the page is full: do not even decode the rest
        pictures.append(card)
    intro = f"{page.counted(len(pictures), 'image')} of {page.number(len(images))}"
    whole = len(pictures) == len(images)
    intro += "." if whole else ": as many as fit on this page; the drawn images hold all."
    return page.section("Images", legend(classes), page.gallery(pictures), intro=intro)
