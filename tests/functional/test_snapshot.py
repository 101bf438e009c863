"""Freezing the helper code: what a step's release holds, and which edit makes a new one."""

import ast
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import sightline
from sightline import entry, errors, versions
from sightline.annotations import regions as coco
from sightline.errors import ConfigError
from sightline.publish.annotations import publish_annotations
from sightline.services.runs import freeze as snapshot
from sightline.services.runs.closure import digest_files
from sightline.services.runs.freeze import STEPS, BrokenCodeError, Snapshot, freeze
from sightline.services.runs.live_files import list_files
from sightline.steps.evaluate.report import render_evaluation_report
from sightline.steps.record.report import render_data_report
from sightline.steps.testing.report import render_test_report
from sightline.steps.train.report import render_training_report
from sightline.tasks.detection import data as data_of_detection
from sightline.tasks.detection import fit as fit_of_detection
from sightline.tasks.task import part_names
from tests import live_code
from tests.live_code import LIVE, Place, copy_live, file_of

CONFIG = "mask_rcnn_r18_small"


@pytest.fixture
def volume(tmp_path) -> Path:
    """A volume to edit, whose live copy is this checkout's, as plain files."""
    return copy_live(tmp_path / "volume" / "code").parent


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Snapshot:
    """What the unedited live copy freezes to; names of releases tell the content, wherever they lie."""
    return frozen(copy_live(tmp_path_factory.mktemp("untouched") / "code").parent)


def frozen(volume: Path, config: str = CONFIG, category: str = "desk") -> Snapshot:
    return freeze(volume, config, category, parts={step: part_names("detection", step) for step in STEPS})


def append(volume: Path, place: Place, text: str = "# a remark") -> Path:
    """Edit the live copy."""
    return live_code.append(volume / "code", place, text)


def changed(before: Snapshot, after: Snapshot) -> set[str]:
    """The steps that have another release."""
    return {step for step in STEPS if before.releases[step].name != after.releases[step].name}


def files(release: Path) -> set[str]:
    return {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}


def modules(release: Path) -> set[str]:
    """Dotted names below sightline."""
    return {
        ".".join(path.relative_to(release / "sightline").with_suffix("").parts)
        for path in (release / "sightline").rglob("*.py")
    }


def import_from(release: Path, statement: str) -> subprocess.CompletedProcess[str]:
    """Run an import in an interpreter that has nothing of ours but the release."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = f"import sys; sys.path.insert(0, {str(release)!r}); sys.dont_write_bytecode = True\n{statement}"
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_holds_its_own_step_and_no_other(untouched):
    for step, release in untouched.releases.items():
        folder = "testing" if step == "test" else step
        assert {path.name for path in (release / "sightline" / "steps").iterdir()} == {"__init__.py", folder}


@pytest.mark.parametrize(
    ("step", "foreign"),
    [
        ("record", ("publish", "catalogue", "formats", "models", "processes.child", "tasks.detection.ops")),
        ("train", ("publish", "catalogue", "formats", "annotations", "services.versioning.publication")),
        ("evaluate", ("publish", "catalogue", "formats", "annotations", "services.versioning.publication")),
        ("test", ("publish", "catalogue", "formats", "annotations", "services.versioning.publication")),
    ],
)
def test_a_release_holds_nothing_that_the_step_has_no_use_for(untouched, step, foreign):
    assert [name for name in modules(untouched.releases[step]) if name.startswith(foreign)] == []


ROOMS = {
    "record": {"annotations", "images", "processes", "reports", "services", "steps", "tasks"},
    "train": {"images", "models", "processes", "reports", "services", "steps", "tasks"},
    "evaluate": {"images", "models", "processes", "reports", "services", "steps", "tasks"},
    "test": {"images", "models", "processes", "reports", "services", "steps", "tasks"},
}
"""What a release holds modules of, beside the ground and the door."""


@pytest.mark.parametrize("step", STEPS)
def test_a_release_holds_modules_of_these_rooms_alone(untouched, step):
    rooms = {name.partition(".")[0] for name in modules(untouched.releases[step])}
    assert rooms - {"entry", "errors", "references", "settings", "versions", "__init__"} == ROOMS[step]
    parts = {name for name in modules(untouched.releases[step]) if name.startswith("tasks.detection.")}
    assert ("tasks.detection.data" in parts) == (step == "record")
    assert ("tasks.detection.report" in parts) == (step == "evaluate")


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_everything_that_a_release_imports_is_in_it(untouched, step):
    release = untouched.releases[step]
    for source in release.rglob("*.py"):
        tree = ast.parse(source.read_bytes())
        if source == release / "sightline" / "entry.py":
            (tree,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == step]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sightline."):
                path = release.joinpath(*node.module.split("."))
                assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), f"{source}: {node.module}"


@pytest.mark.slow
def test_what_a_package_reads_from_a_folder_of_its_own_is_in(untouched):
    for folder, step in (("reports/templates", "record"), ("services/database/migrations/versions", "train")):
        live = {path.name for path in (LIVE / "sightline" / folder).iterdir() if path.is_file()}
        assert live and {f"sightline/{folder}/{name}" for name in live} <= files(untouched.releases[step])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "steps"),
    [
        (render_evaluation_report, {"evaluate"}),
        (render_test_report, {"test"}),
        (render_training_report, {"train"}),
        (render_data_report, {"record"}),
        (coco, {"record"}),
        (fit_of_detection, {"train", "evaluate", "test"}),
        (data_of_detection, {"record"}),
        (entry, set(STEPS)),
        (errors, set(STEPS)),
        (sightline, set(STEPS)),
        ("configs/mask_rcnn_r18_small.py", {"train"}),
        ("configs/_base_/mask_rcnn.py", {"train"}),
        ("configs/yolox_s.py", set()),
        ("configs/categories/desk.yaml", {"record"}),
        ("configs/categories/plates.yaml", set()),
        ("configs/categories/desk/brighter.py", {"record"}),
        ("configs/categories/plates/brighter.py", set()),
        (publish_annotations, set()),
        (snapshot, set()),
        ("sightline/a_new_idea.py", set()),
        ("sightline/experiments/later.py", set()),
        ("notes.txt", set()),
    ],
)
def test_an_edit_makes_new_releases_for_those_who_use_it_only(untouched, volume, place, steps):
    append(volume, place)
    after = frozen(volume)
    assert changed(untouched, after) == steps
    assert after.code_digest != untouched.code_digest


@pytest.mark.slow
def test_a_module_that_two_steps_import_renews_both_and_only_them(volume):
    append(volume, "sightline/plates.py", "DIGITS = 4")
    append(volume, render_evaluation_report, "from sightline import plates")
    # Within a function counts as well: that is how heavy modules are imported.
    dots = "." * file_of(render_test_report).count("/")
    append(volume, render_test_report, f"def late():\n    from {dots}plates import DIGITS\n    return DIGITS")
    before = frozen(volume)
    append(volume, "sightline/plates.py")
    assert changed(before, frozen(volume)) == {"evaluate", "test"}


@pytest.mark.slow
def test_an_import_for_type_checkers_only_brings_nothing_in(volume):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sightline.annotations.labelme import Document"
    append(volume, render_evaluation_report, text)
    assert "annotations.labelme" not in modules(frozen(volume).releases["evaluate"])


@pytest.mark.slow
def test_another_config_is_another_training_and_nothing_else(untouched, volume):
    assert changed(untouched, frozen(volume, config="yolox_s")) == {"train"}


@pytest.mark.slow
def test_a_config_comes_with_those_it_inherits_and_no_others(volume):
    append(volume, "configs/own/mine.py", "_base_ = '../mask_rcnn_r18_small.py'")
    for name in ("own/mine", "own/mine.py"):
        configs = {name for name in files(frozen(volume, config=name).releases["train"]) if name.startswith("configs/")}
        assert configs == {
            "configs/own/mine.py",
            "configs/mask_rcnn_r18_small.py",
            *(f"configs/_base_/{base}.py" for base in ("mask_rcnn", "mask_rcnn_small", "photos_320", "runtime")),
            "configs/_base_/schedule_30_epochs.py",
        }


@pytest.mark.slow
def test_a_categorys_recipe_is_in_its_own_record_release_only(volume):
    append(volume, "configs/categories/desk.yaml", "seed: 1")
    append(volume, "configs/categories/plates.yaml", "seed: 2")
    releases = frozen(volume).releases
    assert {name for name in files(releases["record"]) if name.startswith("configs/")} == {
        "configs/categories/desk.yaml"
    }
    assert not any("categories" in name for step in ("train", "evaluate", "test") for name in files(releases[step]))


@pytest.mark.slow
def test_a_categorys_folder_comes_with_its_recipe_and_what_its_plug_in_imports(volume):
    append(volume, "sightline/lamps.py", "WATTS = 40")
    append(volume, "configs/categories/desk/nested/brighter.py", "from sightline.lamps import WATTS")
    append(volume, "configs/categories/desk/splits.csv", "a.jpg,test")
    append(volume, "configs/categories/desk/.splits.csv.swp", "junk")
    releases = frozen(volume).releases
    added = {name for name in files(releases["record"]) if name.startswith("configs/") or "lamps" in name}
    assert added == {
        "configs/categories/desk/nested/brighter.py",
        "configs/categories/desk/splits.csv",
        "sightline/lamps.py",
    }
    assert not any("categories" in name for step in ("train", "evaluate", "test") for name in files(releases[step]))


def test_a_syntax_error_names_file_and_line_and_freezes_nothing(volume):
    path = append(volume, render_evaluation_report, "def broken(:")
    line = path.read_text().count("\n")
    with pytest.raises(BrokenCodeError, match=rf"{path}, line {line}: invalid syntax"):
        frozen(volume)
    assert list((volume / "releases").iterdir()) == []


@pytest.mark.slow
def test_a_config_that_does_not_exist_names_the_nearest(volume):
    with pytest.raises(ConfigError, match=r"'mask_rcnn_r81_small'.* Did you mean 'mask_rcnn_r18_small'"):
        frozen(volume, config="mask_rcnn_r81_small")
    assert list((volume / "releases").iterdir()) == []


@pytest.mark.slow
def test_a_base_that_does_not_exist_is_named(volume):
    append(volume, "configs/mine.py", "_base_ = ['_base_/rumtime.py']")
    with pytest.raises(ConfigError, match=r"configs/mine\.py inherits '_base_/rumtime\.py', and there is no such"):
        frozen(volume, config="mine")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../secrets", "/etc/passwd", "_base_/../../outside"])
def test_a_config_outside_the_configs_folder_is_refused(volume, name):
    (volume / "secrets.py").write_text("")
    (volume / "code" / "outside.py").write_text("")
    (volume / "code" / "secrets.py").write_text("")
    with pytest.raises(ConfigError, match="no config"):
        frozen(volume, config=name)


@pytest.mark.slow
def test_a_base_outside_the_configs_folder_is_refused(volume):
    (volume / "secrets.py").write_text("")
    append(volume, "configs/mine.py", "_base_ = '../../secrets.py'")
    with pytest.raises(ConfigError, match=r"\.\./\.\./secrets\.py"):
        frozen(volume, config="mine")


@pytest.mark.slow
def test_without_a_live_copy_the_error_says_what_to_put_where(tmp_path):
    with pytest.raises(BrokenCodeError, match=r"no helper code at .*code\. Put it there: python pipeline\.py sync"):
        frozen(tmp_path)


@pytest.mark.slow
def test_the_same_files_give_the_same_digests_and_bytes_wherever_they_lie(volume, tmp_path):
    shutil.copytree(volume / "code", tmp_path / "other" / "code", copy_function=shutil.copyfile)
    first, second = frozen(volume), frozen(tmp_path / "other")
    assert changed(first, second) == set()
    assert (first.code_digest, first.tarball) == (second.code_digest, second.tarball)
    for step in STEPS:
        assert files(first.releases[step]) == files(second.releases[step])


def test_the_tarball_is_the_whole_live_copy(volume):
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(frozen(volume).tarball))) as archive:
        packed = {entry.name: archive.extractfile(entry).read() for entry in archive}
    live = volume / "code"
    assert packed == {name: (live / name).read_bytes() for name in files(live)}


@pytest.mark.slow
def test_what_editors_and_python_leave_behind_counts_for_nothing(untouched, volume):
    before = untouched
    for junk in (
        "sightline/evaluate/__pycache__/compare.cpython-311.pyc",
        "sightline/steps/evaluate/.compare.py.swp",
        "sightline/steps/evaluate/compare.py~",
        "sightline/steps/evaluate/.ipynb_checkpoints/compare-checkpoint.py",
        ".git/HEAD",
    ):
        append(volume, junk, "junk(")
    after = frozen(volume)
    assert changed(before, after) == set()
    assert (after.code_digest, after.tarball) == (before.code_digest, before.tarball)


@pytest.mark.slow
def test_a_release_that_exists_is_reused_as_it_lies(volume):
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (volume / "releases").rglob("*") if path.is_file()}

    first = frozen(volume)
    before = times()
    assert frozen(volume).releases == first.releases
    assert times() == before


def test_a_running_release_keeps_the_old_code_after_an_edit(volume):
    release = frozen(volume).releases["evaluate"]
    old = (release / file_of(errors)).read_bytes()
    append(volume, errors)
    frozen(volume)
    assert (release / file_of(errors)).read_bytes() == old


@pytest.mark.slow
def test_runs_that_freeze_at_the_same_time_agree_and_leave_nothing_half_made(volume):
    # Processes, as runs are: Python 3.11's parser is not safe in threads ("AST constructor recursion depth mismatch").
    with ProcessPoolExecutor(6, mp_context=get_context("fork")) as pool:
        snapshots = list(pool.map(frozen, [volume] * 6))
    assert len({tuple(sorted(snapshot.releases.items())) for snapshot in snapshots}) == 1
    made = {path.name for path in (volume / "releases").iterdir()} - {".lock"}
    assert made == {release.name for release in snapshots[0].releases.values()}
    for step, release in snapshots[0].releases.items():
        parts = {step: part_names("detection", step)}
        assert files(release) == files(freeze(volume, CONFIG, "desk", [step], parts).releases[step])


@pytest.mark.slow
def test_a_laptops_linked_live_copy_freezes_like_a_copied_one(untouched, tmp_path):
    (tmp_path / "code").symlink_to(LIVE, target_is_directory=True)
    assert changed(untouched, frozen(tmp_path)) == set()


# What somebody does to the live copy in the middle of its being copied.


def edit_in_place(volume: Path) -> None:
    append(volume, errors)
    append(volume, versions)


def add_and_remove(volume: Path) -> None:
    append(volume, "sightline/publish/new.py", "")
    (volume / "code" / "notes.txt").unlink()


def switch(volume: Path) -> None:
    (volume / "link").symlink_to("copies/new")
    (volume / "link").replace(volume / "code")


def switch_and_remove_the_old_copy(volume: Path) -> None:
    switch(volume)
    shutil.rmtree(volume / "copies" / "old")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (edit_in_place, "as it is now"),
        (add_and_remove, "as it is now"),
        (switch, "old"),
        (switch_and_remove_the_old_copy, "new"),
    ],
)
def test_what_happens_while_the_live_copy_is_copied_is_in_the_snapshot_as_a_whole_or_not_at_all(
    volume, monkeypatch, happens, expected
):
    append(volume, "notes.txt")
    copies = volume / "copies"
    copies.mkdir()
    (volume / "code").rename(copies / "old")
    shutil.copytree(copies / "old", copies / "new")
    for module in (errors, versions):
        (copies / "new" / file_of(module)).write_text("NEW = True\n")
    (volume / "code").symlink_to("copies/old")
    states = {name: digest_files(copies / name, list_files(copies / name)) for name in ("old", "new")}
    plain_copyfile, copied = shutil.copyfile, 0

    def copyfile(source: Path, target: Path) -> None:
        nonlocal copied
        copied += 1
        if copied == 40:
            happens(volume)
        plain_copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    found = frozen(volume).code_digest
    states["as it is now"] = digest_files(volume / "code", list_files(volume / "code"))
    assert found == states[expected]


@pytest.mark.slow
def test_a_file_that_an_editor_has_emptied_to_fill_it_again_is_waited_for(volume, monkeypatch):
    file = volume / "code" / file_of(errors)
    whole, expected = file.read_text(), frozen(volume).code_digest
    plain_sleep = time.sleep

    def sleep(seconds: float) -> None:
        if not file.read_text():
            file.write_text(whole)
        plain_sleep(seconds)

    monkeypatch.setattr(snapshot, "QUIET_NANOSECONDS", 10**9)  # longer than this machine may stand still
    monkeypatch.setattr(time, "sleep", sleep)
    file.write_text("")
    assert frozen(volume).code_digest == expected


@pytest.mark.slow
def test_code_that_is_written_to_all_the_time_is_refused_by_name(volume, monkeypatch):
    monkeypatch.setattr("sightline.services.runs.freeze.EDITED_SECONDS", 1.0)
    plain_stamps = snapshot.stamp_files

    def stamps(folder: Path) -> object:
        append(volume, "sightline/train/losses.log", "0.7")  # just before every look
        return plain_stamps(folder)

    monkeypatch.setattr(snapshot, "stamp_files", stamps)
    with pytest.raises(
        BrokenCodeError, match=r"kept changing for 1 s; the last change was to sightline/train/losses\.log"
    ):
        frozen(volume)
    assert list((volume / "releases").iterdir()) == []


def test_a_step_that_reaches_outside_its_release_gets_an_import_error(untouched):
    release = untouched.releases["evaluate"]
    done = import_from(release, "import sightline.steps.train")
    assert done.returncode != 0 and "No module named 'sightline.steps.train'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "statement"),
    [
        ("record", "from sightline import entry; from sightline.steps.record.record import record_dataset"),
        ("evaluate", "from sightline import entry; from sightline.steps.evaluate.compare import evaluate"),
    ],
)
def test_a_release_alone_is_enough_to_import_its_step(untouched, step, statement):
    release = untouched.releases[step]
    check = "assert all((m.__file__ or '').startswith(sys.path[0]) for n, m in sys.modules.items() if n.startswith('sightline'))"
    done = import_from(release, f"{statement}\n{check}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_record_needs_no_torch(untouched):
    blocked = "sys.modules |= dict.fromkeys(['torch', 'mmengine', 'mmdet', 'mmcv', 'cv2'])"
    done = import_from(untouched.releases["record"], f"{blocked}\nimport sightline.steps.record.record")
    assert done.returncode == 0, done.stderr
