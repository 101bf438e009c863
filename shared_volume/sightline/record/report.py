"""The data report: what a dataset version holds, and everything that was dropped or fixed on the way."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from sightline.report.charts import bar_chart, grouped_bar_chart, histogram
from sightline.report.page import (
    Picture,
    Tile,
    counted,
    details,
    gallery,
    grid,
    legend,
    notice,
    number,
    render_page,
    section,
    table,
    tiles,
)
from sightline.report.pictures import Thumbnails, shapes_from_coco, try_open

SPLITS = ("train", "val", "test")
SAMPLES_PER_SPLIT = 12
MOST_CHARTED_CLASSES = 30
MOST_LISTED_SIZES = 8
MOST_LISTED_FINDINGS = 200  # of one code
SMALL_SIDE, LARGE_SIDE = 32, 96  # pixels; COCO calls objects small below 32x32 and large above 96x96


@dataclass(frozen=True, slots=True)
class _SplitSummary:
    """One split, as far as the page shows it.

    Attributes:
        objects: class -> number of objects.
        images_with: class -> number of images that have at least one.
        sizes: (width, height) -> number of images.
        areas: of every object, in pixels.
        objects_per_image: for every image.
        samples: images to show with their annotations.
    """

    objects: Counter[str]
    images_with: Counter[str]
    sizes: Counter[tuple[int, int]]
    areas: np.ndarray
    objects_per_image: np.ndarray
    samples: list[tuple[dict[str, Any], list[dict[str, Any]]]]

    @property
    def images(self) -> int:
        return len(self.objects_per_image)


def render_data_report(dataset_dir: Path, facts: Mapping[str, str]) -> str:
    """The page for one dataset version.

    Args:
        dataset_dir: holds dataset.json, the splits' COCO files, findings.json and images/.
        facts: what made it, name -> value, for the page's head.

    Returns:
        One self-contained HTML document, under 5 MB.
    """
    dataset = json.loads((dataset_dir / "dataset.json").read_bytes())
    classes = dataset["classes"]
    splits = {
        split: _summarize(json.loads((dataset_dir / f"{split}.json").read_bytes()), classes)
        for split in SPLITS
        if (dataset_dir / f"{split}.json").is_file()
    }
    findings_file = dataset_dir / "findings.json"
    findings = json.loads(findings_file.read_bytes()) if findings_file.is_file() else []
    blocks = [
        _headline(splits, classes, findings),
        *_missing_classes(splits, classes),
        _classes_section(splits, classes),
        _sizes_section(splits),
        _samples_section(splits, classes, dataset_dir),
        _findings_section(findings),
    ]
    return render_page("Data report", f"{dataset['category']} {dataset['version']}", facts, blocks)


def _summarize(coco: Mapping[str, Any], classes: Sequence[str]) -> _SplitSummary:
    annotations_of: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        annotations_of[annotation["image_id"]].append(annotation)
    images = coco["images"]
    chosen = np.unique(np.linspace(0, len(images) - 1, min(SAMPLES_PER_SPLIT, len(images))).round().astype(int))
    return _SplitSummary(
        objects=Counter(classes[one["category_id"] - 1] for one in coco["annotations"]),
        images_with=Counter(
            classes[category - 1] for own in annotations_of.values() for category in {one["category_id"] for one in own}
        ),
        sizes=Counter((image["width"], image["height"]) for image in images),
        areas=np.array([one["area"] for one in coco["annotations"]], dtype=float),
        objects_per_image=np.array([len(own) for own in annotations_of.values()], dtype=int),
        samples=[(images[index], annotations_of[images[index]["id"]]) for index in chosen],
    )


def _headline(
    splits: Mapping[str, _SplitSummary], classes: Sequence[str], findings: Sequence[Mapping[str, Any]]
) -> Markup:
    images = sum(split.images for split in splits.values())
    objects = sum(split.objects.total() for split in splits.values())
    outcomes = Counter(finding["outcome"] for finding in findings)
    return tiles(
        Tile("Images", images, " / ".join(f"{number(split.images)}\u00a0{name}" for name, split in splits.items())),
        Tile("Objects", objects, f"{objects / images:.1f} per image" if images else ""),
        Tile("Classes", len(classes)),
        Tile(
            "Findings",
            len(findings),
            ", ".join(f"{number(count)} {outcome}" for outcome, count in outcomes.most_common()) or "nothing to report",
        ),
    )


def _missing_classes(splits: Mapping[str, _SplitSummary], classes: Sequence[str]) -> list[Markup]:
    warnings = []
    for name, split in splits.items():
        missing = [label for label in classes if not split.objects[label]]
        if missing and split.images:
            warnings.append(
                notice(
                    f"No object of {', '.join(missing)} in {name}: "
                    f"{'it cannot be learnt' if name == 'train' else 'its scores there say nothing about it'}. "
                    "Add images, or split with another seed."
                )
            )
        elif not split.images:
            warnings.append(notice(f"The split {name} has no image."))
    return warnings


def _classes_section(splits: Mapping[str, _SplitSummary], classes: Sequence[str]) -> Markup:
    ranked = sorted(classes, key=lambda label: -sum(split.objects[label] for split in splits.values()))
    shown = ranked[:MOST_CHARTED_CLASSES]
    rows = [
        [label, sum(split.objects[label] for split in splits.values())]
        + [value for split in splits.values() for value in (split.objects[label], split.images_with[label])]
        for label in classes
    ]
    total = [sum(row[column] for row in rows) for column in (1, *range(2, len(splits) * 2 + 2, 2))]
    rows.append(
        [
            "all",
            total[0],
            *[
                value
                for count, split in zip(total[1:], splits.values(), strict=True)
                for value in (count, split.images)
            ],
        ]
    )
    columns = ["class", "objects", *[f"{name} {what}" for name in splits for what in ("objects", "images")]]
    return section(
        "Classes",
        grid(
            grouped_bar_chart(
                "Objects per class and split",
                shown,
                {name: [split.objects[label] for label in shown] for name, split in splits.items()},
                "objects",
                note=f"The {len(shown)} most frequent of {len(classes)} classes; the table has all."
                if len(shown) < len(classes)
                else "",
            ),
            grouped_bar_chart(
                "Share of each class in its split",
                shown,
                {name: _shares(split, shown) for name, split in splits.items()},
                "% of the split's objects",
            ),
            bar_chart("Images per split", list(splits), [split.images for split in splits.values()], "images"),
        ),
        table(columns, rows, highlighted={len(rows) - 1}),
    )


def _shares(split: _SplitSummary, labels: Sequence[str]) -> list[float]:
    return [100 * split.objects[label] / max(split.objects.total(), 1) for label in labels]


def _sizes_section(splits: Mapping[str, _SplitSummary]) -> Markup:
    areas = np.concatenate([split.areas for split in splits.values()]) if splits else np.zeros(0)
    sides = np.sqrt(areas)
    small, large = int((sides < SMALL_SIDE).sum()), int((sides > LARGE_SIDE).sum())
    per_image = np.concatenate([split.objects_per_image for split in splits.values()]) if splits else np.zeros(0)
    sizes = sum((split.sizes for split in splits.values()), Counter[tuple[int, int]]())
    listed = sizes.most_common(MOST_LISTED_SIZES)
    rest = len(sizes) - len(listed)
    return section(
        "Sizes",
        grid(
            histogram(
                "Object size",
                sides,
                "square root of the area, px",
                "objects",
                note=f"{number(small)} small (below {SMALL_SIDE} px), {number(len(sides) - small - large)} medium, "
                f"{number(large)} large (above {LARGE_SIDE} px).",
            ),
            histogram("Objects per image", per_image, "objects", "images", whole=True),
            Markup("{}{}").format(
                Markup("<h3>Image sizes</h3>"),
                table(
                    ["width x height, px", "images"],
                    [[f"{width} x {height}", count] for (width, height), count in listed],
                ),
            )
            + (Markup('<p class="muted small">and {} more sizes</p>').format(rest) if rest else Markup()),
        ),
    )


def _samples_section(splits: Mapping[str, _SplitSummary], classes: Sequence[str], dataset_dir: Path) -> Markup:
    thumbnails = Thumbnails(sum(len(split.samples) for split in splits.values()))
    blocks: list[Markup] = [legend(classes)]
    for name, split in splits.items():
        pictures = []
        for image, annotations in split.samples:
            picture = try_open(dataset_dir / "images" / image["file_name"])
            uri = thumbnails.add(picture, shapes_from_coco(annotations, classes)) if picture else None
            if uri:
                note = f"{image['width']} x {image['height']}, {counted(len(annotations), 'object')}"
                pictures.append(Picture(image["file_name"], note, ((uri, "annotated"),)))
        blocks.append(Markup("<h3>{}: {} of {}</h3>").format(name, len(pictures), counted(split.images, "image")))
        blocks.append(gallery(pictures))
    return section("Samples", *blocks)


def _findings_section(findings: Sequence[Mapping[str, Any]]) -> Markup:
    if not findings:
        return section("Findings", notice("Nothing was dropped, fixed or left out.", kind="info"))
    by_code: dict[str, list[Mapping[str, Any]]] = {}
    for finding in findings:
        by_code.setdefault(finding["code"], []).append(finding)
    ranked = sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0]))
    return section(
        "Findings",
        *[_findings_of(code, own, unfolded=len(ranked) == 1) for code, own in ranked],
        intro="What was wrong in the annotations, why, and what became of it.",
    )


def _findings_of(code: str, findings: Sequence[Mapping[str, Any]], unfolded: bool) -> Markup:
    outcomes = Counter(finding["outcome"] for finding in findings)
    summary = f"{code}: {number(len(findings))} ({', '.join(f'{number(count)} {outcome}' for outcome, count in outcomes.most_common())})"
    rows = [
        [finding["file"], _shape(finding.get("shape_index")), finding["message"], finding["outcome"]]
        for finding in findings[:MOST_LISTED_FINDINGS]
    ]
    rest = len(findings) - len(rows)
    more = [Markup('<p class="muted small">and {} more like these</p>').format(number(rest))] if rest else []
    return details(summary, table(["file", "shape", "reason", "outcome"], rows), *more, unfolded=unfolded)


def _shape(index: object) -> str:
    return "" if index is None else f"#{index}"
