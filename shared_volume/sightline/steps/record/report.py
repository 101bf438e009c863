"""The record report: what a dataset version holds, and everything that was left out, dropped or fixed on the way."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from sightline.references import task_of
from sightline.reports import page
from sightline.reports.charts import bar_chart, compared_histogram, grouped_bar_chart
from sightline.reports.pictures import Thumbnails, legend
from sightline.steps.record.build import STAGES
from sightline.steps.record.write import Sample, ShownSplit
from sightline.tasks.task import Task

MOST_CHARTED_CLASSES = 30
MOST_LISTED_SIZES = 8
MOST_LISTED_FINDINGS = 200  # of one code
GROUPS_SHOWN = 3  # of images that look alike, with pictures
PICTURES_OF_A_GROUP = 5

ARROW: Final = "\u2192"

OF_REGIONS: Final = ("groups", "objects")
"""Stages that leave annotations of whole images as they are."""

Json = Mapping[str, Any]


def render_data_report(dataset_dir: Path, splits: Mapping[str, ShownSplit], facts: Mapping[str, str]) -> str:
    """The page for one dataset version, one self-contained HTML document under 5 MB.

    `dataset_dir` is as `write_dataset` leaves it, its images unpacked, and `splits` what it says of them; `facts` (name ->
    value) stand in the page's head.
    """
    dataset, statistics, findings = (_read(dataset_dir, name) for name in ("dataset", "statistics", "findings"))
    task = Task(task_of(dataset.get("recipe")))
    samples = {name: split.samples for name, split in splits.items()}
    sizes = sum((split.sizes for split in splits.values()), Counter[tuple[int, int]]())
    blocks = [
        _headline(task, statistics, findings),
        *[page.notice(warning) for warning in statistics["warnings"]],
        _stages_section(task, statistics, dataset.get("recipe", {})),
        _classes_section(task, statistics),
        _sizes_section(task, statistics, sizes),
        *_alike_section(statistics, dataset_dir),
        _samples_section(task, statistics, samples, dataset["classes"], dataset_dir),
        _findings_section(findings),
    ]
    return page.render_page("Record report", f"{dataset['category']} {dataset['version']}", facts, blocks)


def _read(dataset_dir: Path, name: str) -> Any:
    return json.loads((dataset_dir / f"{name}.json").read_bytes())


def _of_whole_images(task: Task) -> bool:
    """Whether an image has one annotation, which is of all of it."""
    return task.data.ANNOTATED_BY == "flags"


def _headline(task: Task, statistics: Json, findings: Sequence[Json]) -> Markup:
    splits = statistics["splits"]
    images, objects, crowds = (sum(one[key] for one in splits.values()) for key in ("images", "objects", "crowds"))
    without = sum(one["images_without_objects"] for one in splits.values())
    per_image = f"{objects / images:.1f} per image" if images else ""
    noted = {"images without": without, "crowds": crowds}
    also = [f"{page.number(count)} {name}" for name, count in noted.items() if count]
    annotated = page.Tile(page.plural(task.facts.ANNOTATED).capitalize(), objects, ", ".join([per_image, *also]))
    of_splits = " / ".join(f"{page.number(one['images'])}\u00a0{name}" for name, one in splits.items())
    return page.tiles(
        page.Tile("Images", images, of_splits),
        *([] if _of_whole_images(task) else [annotated]),
        page.Tile("Classes", len(statistics["histograms"]["class"]["labels"])),
        page.Tile("Findings", len(findings), _outcomes(findings) or "nothing to report"),
    )


def _stages_section(task: Task, statistics: Json, recipe: Json) -> Markup:
    idle = OF_REGIONS if _of_whole_images(task) else ()
    by = task.data.ANNOTATED_BY
    rows = [
        [one["name"], _change(one, "images"), _change(one, "annotations"), STAGES[one["name"]].format(by=by)]
        for one in statistics["stages"]
        if one["name"] not in idle
    ]
    changed = {index for index, row in enumerate(rows) if ARROW in row[1] + row[2]}
    blocks = [page.table(["stage", "images", "annotations", "what it is about"], rows, highlighted=changed)]
    if others := statistics["other_labels"]:
        columns = ["label", "shapes left out", "on images", "what became of the images"]
        labels = []
        for one in others:
            became = "they stay, as background where nothing else is on them"
            if recipe.get("other_labels") == "drop":
                became = f"{page.counted(one['images_left_out'], 'image')} that had nothing else left out"
            labels.append([one["label"], one["shapes"], one["images"], became])
        blocks += [Markup("<h3>Labels that were not chosen</h3>"), page.table(columns, labels)]
    intro = (
        f"What each stage of the recipe was given and what it left. Annotations are {by} up to the check, "
        f"then {page.plural(task.facts.ANNOTATED)}."
    )
    return page.section("Stages", *blocks, intro=intro)


def _change(stage: Json, what: str) -> str:
    before, after = stage[f"{what}_before"], stage[f"{what}_after"]
    return page.number(after) if before == after else f"{page.number(before)} {ARROW} {page.number(after)}"


def _classes_section(task: Task, statistics: Json) -> Markup:
    histogram = statistics["histograms"]["class"]
    classes, splits = histogram["labels"], statistics["splits"]
    objects, images = (
        {split: dict(zip(classes, counts, strict=True)) for split, counts in histogram[what].items()}
        for what in ("objects", "images")
    )
    all_of = {label: sum(own[label] for own in objects.values()) for label in classes}
    shown = sorted(classes, key=lambda label: -all_of[label])[:MOST_CHARTED_CLASSES]
    annotated = page.plural(task.facts.ANNOTATED)
    counts = {annotated: objects} if _of_whole_images(task) else {annotated: objects, "images": images}
    rows: list[list[object]] = [
        [label, all_of[label], *[own[split][label] for split in splits for own in counts.values()]] for label in classes
    ]
    total = [one[key] for one in splits.values() for key in ("objects", "images")[: len(counts)]]
    rows.append(["all", sum(all_of.values()), *total])
    columns = ["class", annotated, *[f"{name} {what}" for name in splits for what in counts]]
    cut = f"The {len(shown)} most frequent of {len(classes)} classes; the table has all."
    bars = {name: [own[label] for label in shown] for name, own in objects.items()}
    sizes = {name: max(splits[name]["objects"], 1) for name in bars}
    shares = {name: [round(100 * count / sizes[name], 1) for count in own] for name, own in bars.items()}
    title, note = f"{annotated.capitalize()} per class and split", cut if len(shown) < len(classes) else ""
    charts = page.grid(
        grouped_bar_chart(title, shown, bars, annotated, note),
        grouped_bar_chart("Share of each class in its split", shown, shares, f"% of the split's {annotated}"),
        bar_chart("Images per split", list(splits), [one["images"] for one in splits.values()], "images"),
    )
    return page.section("Classes", charts, page.table(columns, rows, highlighted={len(rows) - 1}))


def _sizes_section(task: Task, statistics: Json, sizes: Counter[tuple[int, int]]) -> Markup:
    listed = sizes.most_common(MOST_LISTED_SIZES)
    rest = len(sizes) - len(listed)
    what, annotated = task.facts.ANNOTATED.capitalize(), page.plural(task.facts.ANNOTATED)
    wanted = [
        ("area", f"{what} area", "square pixels", f"% of the split's {annotated}"),
        ("side", f"{what} side", "shorter side of the box, pixels", f"% of the split's {annotated}"),
    ]
    if not _of_whole_images(task):
        title = f"{annotated.capitalize()} per image"
        wanted.append(("objects_per_image", title, annotated, "% of the split's images"))
    charts = []
    for name, title, x_label, y_label in wanted:
        one = statistics["histograms"][name]
        scale = {"doubling": one["scale"] == "doubling", "whole": one["scale"] == "whole"}
        if one["edges"]:  # objects may have no size: whole images
            charts.append(compared_histogram(title, one["edges"], one["counts"], x_label, y_label, **scale))
    rows = [[f"{width} x {height}", count] for (width, height), count in listed]
    table = page.table(["width x height, px", "images"], rows)
    image_sizes = Markup("<h3>Image sizes</h3>{}").format(table)
    more = Markup('<p class="muted small">and {} more sizes</p>').format(rest) if rest else Markup()
    told = "Every split as a share of its own; splits that are alike lie on each other. The numbers are in statistics.json."
    return page.section("Sizes", page.grid(*charts, image_sizes + more), intro=told if charts else "")


def _alike_section(statistics: Json, dataset_dir: Path) -> list[Markup]:
    alike = statistics["alike"]
    if not alike["groups"]:
        return []
    rows = []
    for one in alike["largest"]:
        rest = one["size"] - len(one["names"])
        rows.append([one["size"], one["split"], ", ".join(one["names"]) + (f" and {rest} more" if rest else "")])
    thumbnails = Thumbnails(GROUPS_SHOWN * PICTURES_OF_A_GROUP)
    blocks = []
    for one in alike["largest"][:GROUPS_SHOWN]:
        names = one["names"][:PICTURES_OF_A_GROUP]
        cards = [
            thumbnails.card(dataset_dir / "images" / name, one["split"], name, image=lambda _: ()) for name in names
        ]
        if pictures := [card for card in cards if card]:
            title = Markup("<h3>{} of {}</h3>").format(len(pictures), page.counted(one["size"], "image"))
            blocks += [title, page.gallery(pictures)]
    return [
        page.section(
            "Images that belong together",
            *blocks,
            page.details("The largest groups", page.table(["images", "split", "names"], rows)),
            intro=f"{page.counted(alike['images'], 'image')} form {page.counted(alike['groups'], 'group')} that look alike or were "
            "grouped by name; each group is in one split, so that no score profits from it.",
        )
    ]


def _samples_section(
    task: Task, statistics: Json, samples: Mapping[str, Sequence[Sample]], classes: Sequence[str], dataset_dir: Path
) -> Markup:
    thumbnails = Thumbnails(sum(map(len, samples.values())))
    blocks: list[Markup] = [legend(classes)]
    for name, chosen in samples.items():
        pictures = []
        for image, annotations in chosen:
            caption = task.draw.caption(annotations, classes, task.facts.ANNOTATED)
            note, file = f"{image['width']} x {image['height']}, {caption}", image["file_name"]
            annotated = partial(task.draw.shapes_of, annotations, classes)
            if card := thumbnails.card(dataset_dir / "images" / file, note, file, annotated=annotated):
                pictures.append(card)
        images = page.counted(statistics["splits"][name]["images"], "image")
        blocks += [Markup("<h3>{}: {} of {}</h3>").format(name, len(pictures), images), page.gallery(pictures)]
    return page.section("Samples", *blocks)


def _findings_section(findings: Sequence[Json]) -> Markup:
    if not findings:
        return page.section("Findings", page.notice("Nothing was dropped, fixed or left out.", kind="info"))
    by_code: dict[str, list[Json]] = {}
    for finding in findings:
        by_code.setdefault(finding["code"], []).append(finding)
    ranked = sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0]))
    return page.section(
        "Findings",
        *[_findings_of(code, own, unfolded=len(ranked) == 1) for code, own in ranked],
        intro="What was wrong in the annotations or unwanted by the recipe, why, and what became of it; by publishing the "
        "annotations, or by recording this dataset.",
    )


def _findings_of(code: str, findings: Sequence[Json], unfolded: bool) -> Markup:
    summary = f"{code}: {page.number(len(findings))} ({_outcomes(findings)})"
    rows = []
    for one in findings[:MOST_LISTED_FINDINGS]:
        shape = "" if one.get("shape_index") is None else f"#{one['shape_index']}"
        rows.append([one["file"], shape, one["message"], one["outcome"], one.get("found_in", "record")])
    rest = len(findings) - len(rows)
    more = [Markup('<p class="muted small">and {} more like these</p>').format(page.number(rest))] if rest else []
    table = page.table(["file", "shape", "reason", "outcome", "found by"], rows)
    return page.details(summary, table, *more, unfolded=unfolded)


def _outcomes(findings: Iterable[Json]) -> str:
    counts = Counter(finding["outcome"] for finding in findings)
    return ", ".join(f"{page.number(count)} {outcome}" for outcome, count in counts.most_common())
