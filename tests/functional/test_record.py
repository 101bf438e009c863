"""Recording a dataset version from a published annotation version."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from pycocotools.coco import COCO

from sightline.errors import SightlineError
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.database.versions import list_findings, list_images, list_stages, list_versions
from sightline.services.storage.access import open_storage
from sightline.services.versioning.datasets import find_dataset, pull_dataset
from sightline.services.versioning.description import FILE, parse_description
from sightline.services.versioning.shards import unpack
from sightline.settings import read_settings
from sightline.steps.record.record import Recorded, record_dataset
from tests.installed import BOTH, Installed, install, run
from tests.make_labelme import annotate, box, files_in, make_labelme
from tests.ports import closed_port

NAMES = [f"{room}/{room}{index}.png" for room in ("kitchen", "office") for index in range(10)]
RESULTS = "results/"


@pytest.fixture
def code(tmp_path) -> Path:
    """A frozen release without a recipe."""
    release = tmp_path / "record-0123456789abcdef"
    (release / "configs" / "categories").mkdir(parents=True)
    return release


def use_recipe(code: Path, **recipe) -> None:
    (code / "configs" / "categories" / "desk.yaml").write_text(yaml.safe_dump(recipe))


def published(installed: Installed, folder: Path) -> str:
    """Publish 20 images as desk v0.1.0, with one shape that cannot be used; returns the commit."""
    make_labelme(folder, NAMES)
    annotate(folder, "office/office9.png", [box(), box("dot", 5, 5, 5, 5)])
    return str(publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.row.commit)


def record(code: Path, commit: str) -> Recorded:
    return record_dataset(str(code), "desk", "v0.1.0", commit)


@BOTH
def test_a_recorded_version_has_its_tag_rows_and_report(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    recorded = record(code, commit)
    assert (recorded.dataset.version, recorded.dataset.tag) == ("v0.1.0", "desk_train_v0.1.0")
    assert installed.tags() == ["desk_ann_v0.1.0", "desk_train_v0.1.0"]
    rows = installed.rows()
    annotations, dataset = sorted(rows["versions"], key=lambda row: row["id"])
    assert (dataset["status"], dataset["parent_id"], dataset["image_count"]) == ("published", annotations["id"], 20)
    assert (dataset["commit"], dataset["digest"]) == (recorded.dataset.commit, recorded.dataset.digest)
    splits = {row["name"]: row["split"] for row in rows["images"] if row["version_id"] == dataset["id"]}
    assert sorted(splits) == sorted(NAMES)
    assert set(splits.values()) == {"train", "val", "test"}
    assert [(row["code"], row["file"], row["shape_index"], row["outcome"]) for row in rows["findings"]] == [
        ("zero_area", "office/office9.json", 1, "drop")
    ]
    assert recorded.report.lstrip().startswith("<!") and "zero" in recorded.report
    assert "results/desk/v0.1.0/run-1/record/report.html" in installed.stored()
    assert [(row["step"], row["state"], row["code"]) for row in installed.rows("steps")["steps"]] == [
        ("record", "done", code.name)
    ]


@pytest.mark.slow
@BOTH
def test_a_stranger_pulls_both_versions_and_gets_the_original_images(installed, tmp_path, code):
    folder = tmp_path / "desk"
    record(code, published(installed, folder))
    at_annotations = installed.clone_and_pull("desk_ann_v0.1.0", "clone-ann")
    pulled = files_in(at_annotations / "annotations" / "desk")
    assert {name: data for name, data in pulled.items() if name != FILE} == files_in(folder)
    at_dataset = installed.clone_and_pull("desk_train_v0.1.0", "clone-train")
    unpack(at_dataset / "datasets" / "desk", tmp_path / "unpacked")
    assert len(files_in(tmp_path / "unpacked" / "images")) == 20
    originals = {name: data for name, data in files_in(folder).items() if name.endswith(".png")}
    assert files_in(tmp_path / "unpacked" / "images") == originals


@pytest.mark.slow
@BOTH
def test_the_same_again_gives_the_version_that_is_there(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    first = record(code, commit)
    stored, refs, rows = installed.state()
    assert record(code, commit).dataset == first.dataset
    stored_again, refs_again, rows_again = installed.state()
    assert (refs_again, rows_again) == (refs, rows)
    assert {key for key in stored_again if not key.startswith(RESULTS)} == {
        key for key in stored if not key.startswith(RESULTS)
    }


@pytest.mark.slow
def test_another_machine_reuses_the_version_too(installed, tmp_path, code, monkeypatch):
    commit = published(installed, tmp_path / "desk")
    first = record(code, commit)
    before = installed.refs()
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(tmp_path / "elsewhere"))
    read_settings.cache_clear()
    assert record(code, commit).dataset == first.dataset
    assert installed.refs() == before
    assert len(list((tmp_path / "elsewhere" / "datasets").iterdir())) == 1


@pytest.mark.slow
def test_the_pulled_folder_is_what_steps_read(installed, tmp_path, code):
    folder = tmp_path / "desk"
    recorded = record(code, published(installed, folder))
    dataset_dir = pull_dataset(installed.settings, recorded.dataset)
    description = json.loads((dataset_dir / "dataset.json").read_text())
    assert [description[key] for key in ("category", "version", "annotation_version", "classes")] == [
        "desk",
        "v0.1.0",
        "v0.1.0",
        ["plug", "switch"],
    ]
    seen = []
    for split, counts in description["counts"].items():
        coco = COCO(str(dataset_dir / f"{split}.json"))
        assert (len(coco.imgs), len(coco.anns)) == (counts["images"], counts["annotations"])
        assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["plug", "switch"]
        for image in coco.imgs.values():
            assert (dataset_dir / "images" / image["file_name"]).read_bytes() == (
                folder / image["file_name"]
            ).read_bytes()
            seen.append(image["file_name"])
    assert sorted(seen) == sorted(NAMES)
    assert find_dataset(installed.settings, "desk", "") == recorded.dataset
    assert installed.left_behind() == []


def test_another_recipe_makes_the_next_free_version_and_keeps_the_first(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    first = record(code, commit)
    use_recipe(code, seed=1)
    second = record(code, commit)
    assert (second.dataset.version, second.dataset.tag) == ("v0.1.1", "desk_train_v0.1.1")
    assert second.dataset.digest != first.dataset.digest
    assert (
        json.loads((pull_dataset(installed.settings, second.dataset) / "dataset.json").read_text())["version"]
        == "v0.1.1"
    )
    (code / "configs" / "categories" / "desk.yaml").unlink()
    assert record(code, commit).dataset == first.dataset
    assert installed.published()[1:] == [("desk", "dataset", "v0.1.0"), ("desk", "dataset", "v0.1.1")]


@pytest.mark.slow
def test_the_recipe_renames_and_chooses_labels(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    use_recipe(code, label_map={"switch": "device"}, valid_labels=["device"])
    dataset_dir = pull_dataset(installed.settings, record(code, commit).dataset)
    description = json.loads((dataset_dir / "dataset.json").read_text())
    assert description["classes"] == ["device"]
    assert description["recipe"]["label_map"] == {"switch": "device"}
    assert sum(counts["per_class"]["device"] for counts in description["counts"].values()) == 9
    assert sum(counts["images"] for counts in description["counts"].values()) == 20


MIRROR = """
def transform(image, annotations, keep=1):
    for one in annotations:
        x, y, width, height = one["bbox"]
        one["bbox"], one["segmentation"] = [image.shape[1] - x - width, y, width, height], None
    return image[:, ::-1], annotations[:keep]
"""


@pytest.mark.slow
def test_counts_recipe_and_findings_are_the_same_in_sql_dataset_and_storage(installed, tmp_path, code):
    folder = tmp_path / "desk"
    make_labelme(folder, NAMES)
    annotate(folder, "office/office9.png", [box(), box("dot", 5, 5, 5, 5)])
    (folder / "office" / "office8.json").unlink()
    commit = str(publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.row.commit)
    (code / "configs" / "categories" / "desk").mkdir()
    (code / "configs" / "categories" / "desk" / "mirror.py").write_text(MIRROR)
    (code / "configs" / "categories" / "desk" / "splits.csv").write_text("kitchen/kitchen0.png,test\n")
    plugin = {"file": "mirror.py", "arguments": {"keep": 2}}
    use_recipe(
        code, plugin=plugin, split_file="splits.csv", label_map={"switch": "device"}, policy={"zero_area": "drop"}
    )
    recorded = record(code, commit)
    database = connect(installed.settings.database_url.get_secret_value())
    annotations, dataset = (list_versions(database, "desk", kind)[0] for kind in ("annotation", "dataset"))
    stages = [asdict(stage) for stage in list_stages(database, dataset.id)]
    dataset_dir = pull_dataset(installed.settings, recorded.dataset)
    assert (stages[0]["images_before"], stages[-1]["images_after"]) == (19, 19)
    assert {stage["name"]: stage["annotations_after"] for stage in stages}["plugin"] == 28
    assert json.loads((dataset_dir / "dataset.json").read_bytes())["stages"] == stages
    assert json.loads((dataset_dir / "statistics.json").read_bytes())["stages"] == stages
    uploaded = open_storage(installed.settings.storage).read_bytes("results/desk/v0.1.0/run-1/record/statistics.json")
    assert uploaded == (dataset_dir / "statistics.json").read_bytes()
    sha256 = hashlib.sha256(MIRROR.encode()).hexdigest()
    expected = {
        "annotation_version": "v0.1.0",
        "classes": ["device", "plug"],
        "code": code.name,
        "fractions": {"train": 0.7, "val": 0.2, "test": 0.1},
        "label_map": {"switch": "device"},
        "plugin": {"file": "mirror.py", "function": "transform", "arguments": {"keep": 2}, "sha256": sha256},
        "policy": {"zero_area": "drop"},
        "seed": 0,
        "split_file": {"file": "splits.csv", "sha256": hashlib.sha256(b"kitchen/kitchen0.png,test\n").hexdigest()},
    }
    assert {key: dataset.recipe[key] for key in expected} == expected
    assert code.name not in (dataset_dir / "dataset.json").read_text()
    found = {(row.code, row.file) for row in list_findings(database, dataset.id)}
    published = {(row.code, row.file) for row in list_findings(database, annotations.id)}
    assert ("image_without_json", "office/office8.png") in published
    assert published | {("zero_area", "office/office9.json")} == found
    told = json.loads((dataset_dir / "findings.json").read_bytes())
    assert {(one["code"], one["file"]) for one in told} == found
    assert {one["code"]: one["found_in"] for one in told}["image_without_json"] == "publish"
    rows = list_images(database, dataset.id)
    assert {row.name: row.split for row in rows}["kitchen/kitchen0.png"] == "test"
    for split in ("train", "val", "test"):
        coco = COCO(str(dataset_dir / f"{split}.json"))
        labels = {one: coco.cats[one]["name"] for one in coco.cats}
        for image in coco.imgs.values():
            counted = Counter(labels[one["category_id"]] for one in coco.imgToAnns[image["id"]])
            assert {row.name: row.labels for row in rows}[image["file_name"]] == counted
    file = installed.clone_and_pull("desk_train_v0.1.0", "clone") / "datasets" / "desk" / FILE
    assert [asdict(stage) for stage in parse_description(file.read_bytes(), str(file)).stages] == stages


def test_another_plugin_gives_another_version(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    (code / "configs" / "categories" / "desk").mkdir()
    file = code / "configs" / "categories" / "desk" / "mirror.py"
    use_recipe(code, plugin={"file": "mirror.py"})
    versions = []
    for source in (MIRROR, MIRROR + "\n# looks the same\n", MIRROR):
        file.write_text(source)
        versions.append(record(code, commit).dataset.version)
    assert versions == ["v0.1.0", "v0.1.1", "v0.1.0"]


def test_a_broken_recipe_is_named_as_users_know_it(installed, code):
    for recipe in ("configs/categories/desk.yaml", "custom/recipes/desk.yaml"):
        (code / recipe).parent.mkdir(parents=True, exist_ok=True)
        (code / recipe).write_text("sead: 1")
        with pytest.raises(SightlineError, match=rf"^{recipe}: there is no key 'sead'"):
            record(code, "")


def test_a_broken_plugin_ends_without_a_version(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    before = installed.state()
    (code / "configs" / "categories" / "desk").mkdir()
    (code / "configs" / "categories" / "desk" / "mirror.py").write_text(
        "def transform(image, annotations):\n    1 / 0\n"
    )
    use_recipe(code, plugin={"file": "mirror.py"})
    with pytest.raises(
        SightlineError, match=r"(?s)plug-in mirror\.py, transform, image kitchen/kitchen0\.png: .*ZeroDivisionError"
    ):
        record(code, commit)
    assert installed.state() == before
    assert installed.left_behind() == []


def test_a_misspelt_recipe_key_is_refused_and_nothing_is_recorded(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    before = installed.state()
    use_recipe(code, valid_label=["plug"])
    with pytest.raises(SightlineError, match=r"desk\.yaml: there is no key 'valid_label'. Did you mean 'valid_labels'"):
        record(code, commit)
    assert installed.state() == before
    step = installed.rows("steps")["steps"][0]
    assert step["state"] == "failed" and "valid_labels" in step["reason"]


def test_a_tag_that_was_moved_is_refused_whatever_the_run_saw(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    other = str(
        publish_annotations(
            installed.settings, make_labelme(tmp_path / "more", ["z.png"]), "desk", "v0.2.0"
        ).publication.row.commit
    )
    run("git", "-C", installed.settings.dataset_repo, "tag", "--force", "desk_ann_v0.1.0", other)
    before = installed.state()
    for seen in (commit, other):
        with pytest.raises(
            SightlineError, match=rf"desk_ann_v0\.1\.0 was moved: it names {other[:12]}, not {commit[:12]}"
        ):
            record(code, seen)
    assert installed.state() == before
    assert installed.left_behind() == []


def test_a_version_that_is_not_published_is_named(installed, code):
    with pytest.raises(SightlineError, match=r"v0\.1\.0 of desk is not published"):
        record(code, "")
    assert installed.stored() == {}


def test_a_label_that_leaves_nothing_ends_without_a_version(installed, tmp_path, code):
    commit = published(installed, tmp_path / "desk")
    before = installed.state()
    use_recipe(code, valid_labels=["plugg"])
    with pytest.raises(SightlineError, match=r"no annotated image is left .*label_not_valid"):
        record(code, commit)
    assert installed.state() == before
    assert installed.left_behind() == []


@pytest.mark.slow
def test_a_bucket_that_went_away_ends_without_a_version(tmp_path, code, monkeypatch, request):
    installed = install(tmp_path, monkeypatch, f"gs://{request.getfixturevalue('bucket')}")
    commit = published(installed, tmp_path / "desk")
    refs, rows = installed.refs(), installed.rows()
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "2")
    with closed_port() as port:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        with pytest.raises(SightlineError, match=r"could not be reached: .* for \d+ s"):
            record(code, commit)
    assert (installed.refs(), installed.rows()) == (refs, rows)
    assert installed.left_behind() == []
