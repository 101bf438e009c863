"""The record report on a dataset folder whose files a test wrote itself."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sightline.services.versioning.shards import SPLITS
from sightline.steps.record.report import render_data_report
from sightline.steps.record.write import ShownSplit, choose_samples


def render_report_on(folder: Path, facts: Mapping[str, str]) -> str:
    """The page, of splits as their files are."""
    return render_data_report(folder, {split: _read(folder / f"{split}.json") for split in SPLITS}, facts)


def _read(path: Path) -> ShownSplit:
    coco = json.loads(path.read_bytes())
    sizes = Counter((image["width"], image["height"]) for image in coco["images"])
    return ShownSplit(sizes, choose_samples(coco, range(min(len(coco["images"]), 12))))
