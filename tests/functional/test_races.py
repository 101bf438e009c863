"""Eight publishers at once, on SQLite with files and on MariaDB with a bucket: who wins, and what everybody else gets."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sightline.publish.annotations import publish_annotations
from sightline.settings import read_settings
from tests.functional.test_killed_publication import fetch_all
from tests.installed import BOTH, Installed, run
from tests.make_labelme import annotate, box
from tests.publishers import Answer, Publisher, result_of

PUBLISHERS = 8
VERSION = "v0.1.0"


def publish(folder: Path, category: str, version: str) -> bool:
    return publish_annotations(read_settings(), folder, category, version).publication.new


def at_once(calls: list[tuple[Any, ...]]) -> list[Answer]:
    """The answers of publishers that all start at once."""
    publishers = [Publisher(publish, *arguments) for arguments in calls]
    return [publisher.answer() for publisher in publishers]


def folders(parent: Path, number: int = PUBLISHERS) -> list[Path]:
    """Folders of two images; one image is the same in all, the other in none."""
    made = [parent / f"folder {index}" for index in range(number)]
    for index, folder in enumerate(made):
        annotate(folder, "same.png", [box()])
        annotate(folder, f"{index}.png", [box()])
    return made


def require_all_landed(installed: Installed, expected: list[tuple[str, str]]) -> None:
    """Every version has its row, its tag and its commit in the branch's history, and a stranger gets its bytes."""
    rows = installed.rows("versions")["versions"]
    assert sorted((row["category"], row["version"], row["status"]) for row in rows) == sorted(
        (category, version, "published") for category, version in expected
    )
    assert installed.tags() == sorted(f"{category}_ann_{version}" for category, version in expected)
    history = run("git", "-C", installed.settings.dataset_repo, "log", "--format=%H", "main").splitlines()
    assert sorted(history) == sorted(str(row["commit"]) for row in rows)
    clone = installed.folder / "clone"
    run("git", "clone", "--quiet", installed.settings.dataset_repo, str(clone))
    result_of(fetch_all, clone, installed.settings.storage.startswith("gs://"))
    fetched = {path.parent.name + path.name for path in (clone / ".dvc" / "cache").glob("files/md5/*/*")}
    assert {str(row["digest"]) for row in rows} <= fetched
    for row in rows:
        pointer = run("git", "-C", str(clone), "show", f"{row['tag']}:annotations/{row['category']}.dvc")
        assert str(row["digest"]) in pointer
    assert installed.left_behind() == []


@pytest.mark.slow
@BOTH
def test_different_versions_of_one_category_all_land(installed, tmp_path):
    versions = [f"v0.{index}.0" for index in range(PUBLISHERS)]
    calls = [(folder, "desk", version) for folder, version in zip(folders(tmp_path / "in"), versions, strict=True)]
    assert at_once(calls) == [Answer(result=True)] * PUBLISHERS
    require_all_landed(installed, [("desk", version) for version in versions])


@pytest.mark.slow
@BOTH
def test_different_categories_all_land(installed, tmp_path):
    categories = [f"desk-{index}" for index in range(PUBLISHERS)]
    calls = [(folder, category, VERSION) for folder, category in zip(folders(tmp_path / "in"), categories, strict=True)]
    assert at_once(calls) == [Answer(result=True)] * PUBLISHERS
    require_all_landed(installed, [(category, VERSION) for category in categories])


@pytest.mark.slow
@BOTH
def test_of_the_same_version_with_the_same_content_one_is_written(installed, tmp_path):
    (folder,) = folders(tmp_path / "in", 1)
    answers = at_once([(folder, "desk", VERSION)] * PUBLISHERS)
    assert Counter(answer.result for answer in answers) == {True: 1, False: PUBLISHERS - 1}
    require_all_landed(installed, [("desk", VERSION)])


@BOTH
def test_of_the_same_version_with_other_content_one_wins(installed, tmp_path):
    answers = at_once([(folder, "desk", VERSION) for folder in folders(tmp_path / "in")])
    winners = [index for index, answer in enumerate(answers) if answer.result]
    assert len(winners) == 1
    won = winners[0]
    for index, answer in enumerate(answers):
        if index != won:
            assert answer.error == "VersionTakenError", answer
            assert f"2 added ({index}.json, {index}.png); 2 removed ({won}.json, {won}.png)" in answer.message
            assert answer.message.endswith("publish as v0.1.1 instead.")
    require_all_landed(installed, [("desk", VERSION)])
