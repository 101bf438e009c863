"""Sets of a few images: every split gets some without an option, and no image ever moves."""

from pathlib import Path

import pytest

from sightline.annotations.recipe import Recipe
from sightline.publish.annotations import publish_annotations
from sightline.services.versioning.shards import hash_image
from sightline.steps.record.record import record_dataset
from sightline.steps.record.split import draw_split
from tests.installed import Installed
from tests.make_labelme import annotate, box


def record(installed: Installed, folder: Path, version: str, **recipe: object) -> tuple[dict[str, str], str, str]:
    """Publish and record: image -> split, the dataset version, and its report."""
    commit = publish_annotations(installed.settings, folder, "desk", version).publication.row.commit
    recorded = record_dataset("/nowhere/record-0", "desk", version, str(commit), recipe)
    rows = installed.rows("versions", "images")
    called = "dataset", recorded.dataset.version
    number = next(one["id"] for one in rows["versions"] if (one["kind"], one["version"]) == called)
    splits = {one["name"]: one["split"] for one in rows["images"] if one["version_id"] == number}
    return splits, recorded.dataset.version, recorded.report


def empty_seed(folder: Path) -> int:
    """A seed of the recipe under which a split stays empty."""
    digests = [hash_image(path).sha256 for path in folder.glob("*.png")]
    return next(n for n in range(1000) if len({draw_split(one, Recipe().fractions, n) for one in digests}) < 3)


@pytest.mark.parametrize("count", [5, 9, 18])
def test_few_images_reach_every_split_and_none_moves_when_others_are_added(installed, tmp_path, count):
    for number in range(count):
        annotate(tmp_path / "in", f"{number}.png", [box(["cup", "mug"][number % 2])])
    seed = empty_seed(tmp_path / "in")
    before, version, report = record(installed, tmp_path / "in", "v0.1.0", seed=seed)
    assert set(before.values()) == {"train", "val", "test"}
    assert "--recipe seed=" in report
    assert record(installed, tmp_path / "in", "v0.1.0", seed=seed)[1] == version  # the same again is the same version
    for number in range(count, 3 * count + 20):
        annotate(tmp_path / "in", f"{number}.png", [box("cup")])
    after, _, _ = record(installed, tmp_path / "in", "v0.2.0", seed=seed)
    assert {name: after[name] for name in before} == before
