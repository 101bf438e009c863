"""Publishing an annotation version: what it leaves, what it never touches, and what bad input gets."""

import hashlib
import itertools
import json
import shutil
import tempfile
import threading
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy
from PIL import Image

from laptop.cli import main
from laptop.publish import publish as publish_as_typed
from sightline.annotations.findings import FindingsError
from sightline.catalogue.export import export_version
from sightline.errors import SightlineError
from sightline.processes.folders import HELD
from sightline.publish import annotations, items
from sightline.publish.annotations import publish_annotations
from sightline.services.database.connection import connect
from sightline.services.database.models import Finding, VersionRow
from sightline.services.database.models import Image as ImageTable
from sightline.services.database.versions import (
    ClaimLostError,
    FindingRow,
    VersionTakenError,
    claim_version,
    find_version,
)
from sightline.services.storage.folder import UPLOADS
from sightline.services.versioning.git import GitError
from sightline.services.versioning.publication import Content, Publication, Services, publish
from sightline.services.versioning.repository import DatasetRepo
from sightline.settings import read_settings
from tests.installed import BOTH, Installed, install, run, run_dvc
from tests.make_labelme import HEIGHT, NAMES, WIDTH, annotate, box, files_in, make_image, make_labelme, tick
from tests.ports import closed_port, silent_port

DEFAULT_REMOTE = ["remote", "=", "annotations"]


def with_times(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {name: (data, (folder / name).stat().st_mtime_ns) for name, data in files_in(folder).items()}


def plain(folder: Path) -> dict[str, bytes]:
    """The files of a version, without the description that publishing adds."""
    return {name: data for name, data in files_in(folder).items() if not name.startswith(".sightline/")}


@pytest.mark.parametrize("changed", ["a.png", "kitchen/c.json"])
def test_what_changes_while_the_folder_is_read_is_not_published(installed, tmp_path, monkeypatch, changed):
    folder, choose = make_labelme(tmp_path / "in"), annotations._choose

    def change(*given):
        file = folder / changed
        file.write_bytes(file.read_bytes()[:-1] if changed.endswith(".json") else b"\x89PNG")
        return choose(*given)

    monkeypatch.setattr(annotations, "_choose", change)
    with pytest.raises(SightlineError, match=r"a.png|c.png") as refused:
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert "changed while the folder was read" in str(refused.value)
    assert (installed.refs(), installed.rows("versions")["versions"], installed.left_behind()) == ([], [], [])


@pytest.mark.parametrize("changed", ["a.png", "kitchen/c.json"])
def test_what_changes_between_its_reading_and_its_hashing_is_not_published(installed, tmp_path, monkeypatch, changed):
    folder, look_at = make_labelme(tmp_path / "in"), items._look_at

    def change(*given, **more):
        if changed.endswith(".json"):
            annotate(folder / "kitchen", "c.png", [box(label="plug"), box(label="cup"), box(label="cup")])
        else:
            make_image(folder / changed, (31, 17))
        return look_at(*given, **more)

    monkeypatch.setattr(items, "_look_at", change)
    with pytest.raises(SightlineError, match="changed while the folder was read"):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert (installed.refs(), installed.rows("versions")["versions"], installed.left_behind()) == ([], [], [])


@pytest.mark.parametrize(("outcome", "kept"), [("fix", ["a.png", "b.png", "c.png"]), ("drop", ["a.png", "c.png"])])
@pytest.mark.parametrize("label", ["plug", "cup"])
def test_copies_of_one_image_are_told_and_kept_or_left_out_as_asked(installed, tmp_path, outcome, kept, label):
    for name, drawn in (("a", "plug"), ("b", label), ("c", "plug")):
        annotate(tmp_path / "in", f"{name}.png", [box(label=drawn)])
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes())
    policy = {"identical_images": outcome} if outcome != "fix" else {}
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", policy=policy)
    [found] = published.findings
    assert (found.code, found.file, found.outcome) == ("identical_images", "b.json", outcome)
    assert "b.png is a copy of a.png" in found.message and ("annotated otherwise" in found.message) is (label == "cup")
    assert [row["name"] for row in installed.rows("images")["images"]] == kept


@pytest.mark.parametrize("other", ["plug", "cup"])
def test_copies_in_folders_of_classes_are_compared_by_their_class(installed, tmp_path, other):
    for name in ("plug/a.png", f"{other}/b.png", "cup/c.png"):
        make_image(tmp_path / "in" / name)
    (tmp_path / "in" / other / "b.png").write_bytes((tmp_path / "in" / "plug" / "a.png").read_bytes())
    published = publish_annotations(installed.settings, tmp_path / "in", "desk", "v0.1.0", form="folders")
    [found] = [one for one in published.findings if one.code == "identical_images"]
    assert ("annotated otherwise" in found.message) is (other == "cup")


@BOTH
def test_a_published_version_can_be_pulled_by_a_stranger(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert published.publication.new
    assert installed.tags() == ["desk_ann_v0.1.0"]
    clone = installed.clone_and_pull("desk_ann_v0.1.0", "clone")
    assert plain(clone / "annotations" / "desk") == files_in(folder)


def test_a_clone_has_a_default_remote_and_an_older_repository_gets_one_by_its_next_publication(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    clone = installed.clone_and_pull("main", "clone")
    assert run_dvc(clone, "config", "core.remote").strip() == "annotations"
    older = [line for line in (clone / ".dvc" / "config").read_text().splitlines() if line.split() != DEFAULT_REMOTE]
    (clone / ".dvc" / "config").write_text("\n".join(older) + "\n")
    person = ("-c", "user.name=a", "-c", "user.email=a@b")
    run("git", "-C", str(clone), *person, "commit", "--quiet", "--all", "-m", "as before")
    run("git", "-C", str(clone), "push", "--quiet", "origin", "HEAD")
    annotate(folder, "new.png", [box("plug")])
    publish_annotations(installed.settings, folder, "desk", "v0.2.0")
    assert run_dvc(installed.clone_and_pull("main", "later"), "config", "core.remote").strip() == "annotations"


@BOTH
def test_a_published_version_has_its_rows(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    row = publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.row
    assert (row.tag, row.status, row.image_count, row.annotation_count) == ("desk_ann_v0.1.0", "published", 4, 6)
    assert f"{row.commit}\trefs/heads/main" in installed.refs()
    images = {image.pop("name"): image for image in installed.rows("images")["images"]}
    assert sorted(images) == sorted(NAMES)
    for index, name in enumerate(NAMES):
        data = (folder / name).read_bytes()
        assert images[name]["bytes"] == len(data)
        assert images[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert images[name]["annotation_count"] == 1 + index % 2
        assert (images[name]["width"], images[name]["height"], images[name]["split"]) == (WIDTH, HEIGHT, None)


@BOTH
def test_every_file_is_an_object_on_the_remote(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    stored = set(installed.stored())
    for data in files_in(folder).values():
        digest = hashlib.md5(data).hexdigest()
        assert f"dvc/annotations/files/md5/{digest[:2]}/{digest[2:]}" in stored


@BOTH
def test_the_same_content_again_writes_nothing(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    first = publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    before = installed.state()
    again = publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert not again.publication.new
    assert again.publication.row == first.publication.row
    assert installed.state() == before


@BOTH
def test_a_version_never_changes_and_the_refusal_names_the_next(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    before = installed.state()
    annotate(folder, "e.png", [box()])
    (folder / "a.json").write_text((folder / "a.json").read_text().replace("plug", "socket"))
    with pytest.raises(VersionTakenError, match=r"v0\.1\.0 is already published .* publish as v0\.1\.1") as refused:
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert "other content: 2 added (e.json, e.png); 0 removed; 1 changed (a.json). Published" in str(refused.value)
    assert installed.state() == before
    assert publish_annotations(installed.settings, folder, "desk", "v0.1.1").publication.row.image_count == 5
    assert installed.tags() == ["desk_ann_v0.1.0", "desk_ann_v0.1.1"]


def test_the_users_folder_stays_as_it_is(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    before = with_times(folder)
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert with_times(folder) == before
    assert installed.left_behind() == []


@pytest.mark.slow
def test_an_earlier_version_can_still_be_pulled_after_later_ones(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    first = files_in(folder)
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    (folder / "a.png").unlink()
    (folder / "a.json").unlink()
    publish_annotations(installed.settings, folder, "desk", "v0.2.0")
    publish_annotations(installed.settings, make_labelme(tmp_path / "plates", ["p.png"]), "plates", "v1.0.0")
    assert plain(installed.clone_and_pull("desk_ann_v0.1.0", "old") / "annotations" / "desk") == first


@pytest.mark.slow
def test_an_image_embedded_in_the_json_is_dropped_and_paths_are_made_portable(installed, tmp_path):
    folder = tmp_path / "desk"
    document = annotate(folder, "images/a.png", [box()])
    content = json.loads(document.read_text()) | {"imageData": "QUJD", "imagePath": "images\\a.png"}
    document.unlink()
    # A byte order mark, as Windows programs write it.
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8-sig")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    pulled = installed.clone_and_pull("desk_ann_v0.1.0", "clone") / "annotations" / "desk"
    assert json.loads((pulled / "a.json").read_text()) == content | {"imageData": None, "imagePath": "images/a.png"}
    assert (pulled / "images" / "a.png").read_bytes() == (folder / "images" / "a.png").read_bytes()


def test_an_image_without_json_is_left_out_and_counted(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    make_image(folder / "later.png")
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert (published.left_out, published.publication.row.image_count) == (1, 4)


@pytest.mark.parametrize("drawn", [["point"], ["Line", "linestrip"]])
def test_points_and_lines_are_no_objects_and_alone_are_refused(installed, tmp_path, drawn):
    folder = make_labelme(tmp_path / "desk")
    file = min(folder.rglob("*.json"))
    content = json.loads(file.read_text())
    lines = [{**content["shapes"][0], "shape_type": kind} for kind in drawn]
    file.write_text(json.dumps({**content, "shapes": [*content["shapes"], *lines]}))
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert (published.publication.row.annotation_count, published.labels.total()) == (6, 6), "as without them"

    for each in folder.rglob("*.json"):
        each.write_text(json.dumps({**json.loads(each.read_text()), "shapes": lines}))
    told = rf"There are shapes \({', '.join(drawn)}\), but none that encloses an area"
    with pytest.raises(SightlineError, match=told):
        publish_annotations(installed.settings, folder, "desk", "v0.2.0")


@pytest.mark.slow
def test_an_installation_may_lie_in_a_folder_with_a_space(tmp_path, monkeypatch):
    installed = install(tmp_path / "my office", monkeypatch)
    publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    clone = installed.clone_and_pull("desk_ann_v0.1.0", "clone")
    assert plain(clone / "annotations" / "desk") == files_in(tmp_path / "desk")


def test_the_cache_may_be_a_link_to_another_disk(installed, tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as disk:
        assert Path(disk).stat().st_dev != installed.folder.stat().st_dev
        cache = installed.settings.volume / "dvc-cache"
        cache.parent.mkdir(exist_ok=True)
        cache.symlink_to(disk)
        publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
        objects = objects_in(Path(disk))
        assert len(objects) > len(NAMES)
        shutil.rmtree(f"{disk}/files")
        target = tmp_path / "exported"
        export_version(installed.settings, "desk_ann_v0.1.0", "coco", target)
        assert objects_in(Path(disk)) == objects


def objects_in(cache: Path) -> dict[str, int]:
    """The names of a cache's objects, and their modes."""
    return {path.relative_to(cache).as_posix(): path.stat().st_mode for path in cache.glob("files/md5/*/*")}


def test_a_system_that_starts_no_thread_is_answered_with_a_sentence(tmp_path, capsys):
    folder = make_labelme(tmp_path / "desk")
    threading.stack_size(1 << 46)  # bytes: more than any machine has room for
    try:
        status = main(
            ["--workspace", str(tmp_path / "here"), "publish", str(folder), "--category", "desk", "--version", "v0.1.0"]
        )
    finally:
        threading.stack_size(0)
    assert status == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: The system refused to start a thread: ")


def test_a_path_that_dvc_cannot_write_down_is_refused(tmp_path, monkeypatch):
    installed = install(tmp_path / "büro", monkeypatch)
    with pytest.raises(SightlineError, match=r"SIGHTLINE_STORAGE is file:///.*büro/storage: .* ASCII"):
        publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    assert nothing_is_there(installed)


def test_of_many_differences_ten_are_named_and_the_next_version_is_really_free(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    publish_annotations(installed.settings, folder, "desk", "v0.1.1")
    claim_version(services(installed).database, "desk", "annotation", "v0.1.2", "somebody")
    run("git", "-C", installed.settings.dataset_repo, "tag", "desk_ann_v0.1.3", "desk_ann_v0.1.0")
    make_labelme(folder, [f"new {index:02}.png" for index in range(6)])
    (folder / "a.png").unlink()
    (folder / "a.json").unlink()
    with pytest.raises(VersionTakenError) as refused:
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    said = str(refused.value)
    assert "12 added (new 00.json, new 00.png, new 01.json, " in said
    assert "new 04.png and 2 more); 2 removed (a.json, a.png); 0 changed." in said
    assert refused.value.free == "v0.1.4"
    assert said.endswith("publish as v0.1.4 instead.")


def interrupt(installed: Installed, folder: Path, version: str) -> None:
    """What an attempt leaves that dies between its tag and its rows."""
    publish_annotations(installed.settings, folder, "desk", version)
    database = services(installed).database
    database.write(
        lambda session: [session.execute(sqlalchemy.delete(table)) for table in (ImageTable, Finding, VersionRow)]
    )
    assert installed.tags() == [f"desk_ann_{version}"]


@BOTH
def test_a_tag_without_rows_gets_them_from_the_same_content(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    interrupt(installed, folder, "v0.1.0")
    before = installed.refs()
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication
    assert (published.new, published.row.image_count) == (True, 4)
    assert installed.refs() == before


@pytest.mark.slow
@BOTH
def test_a_tag_without_rows_refuses_other_content(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    interrupt(installed, folder, "v0.1.0")
    before = installed.state()
    annotate(folder, "e.png", [box()])
    with pytest.raises(VersionTakenError, match=r"interrupted.*2 added \(e\.json, e\.png\).*publish as v0\.1\.1"):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert installed.state() == before


@pytest.mark.slow
def test_the_rows_of_an_interrupted_attempt_are_those_that_its_files_say(installed, tmp_path):
    """A newer release of the library may describe the same files in other words."""

    def build(words: str, target: Path) -> Content:
        make_labelme(target, ["d.png"])
        return Content(images=(), findings=(FindingRow("code", "d.json", None, words, "fix"),))

    def attempt(words: str) -> Publication:
        return publish(services(installed), "desk", "annotation", "v0.1.0", partial(build, words))

    first = attempt("old words").row
    services(installed).database.write(
        lambda session: [session.execute(sqlalchemy.delete(table)) for table in (Finding, VersionRow)]
    )
    finished = attempt("new words").row
    assert (finished.digest, finished.commit) == (first.digest, first.commit)
    assert [row["message"] for row in installed.rows("findings")["findings"]] == ["old words"]
    assert not attempt("newest words").new


def test_a_claim_that_was_lost_while_building_publishes_nothing(installed, tmp_path):
    found = services(installed)

    def build(target: Path) -> Content:
        make_labelme(target, ["d.png"])
        holder = find_version(found.database, "desk", "annotation", "v0.1.0")
        assert holder is not None
        claim_version(found.database, "desk", "annotation", "v0.1.0", "another", instead_of=holder.owner)
        return Content(images=())

    with pytest.raises(ClaimLostError, match="another publisher took over"):
        publish(found, "desk", "annotation", "v0.1.0", build)
    assert (installed.tags(), installed.published(), installed.left_behind()) == ([], [], [])
    assert [row["owner"] for row in installed.rows("versions")["versions"]] == ["another"]


@pytest.mark.slow
def test_what_a_killed_push_left_in_the_repository_is_removed(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    bare = Path(installed.settings.dataset_repo)
    quarantine = bare / "objects" / "tmp_objdir-incoming-AbCdEf"
    quarantine.mkdir()
    locks = [bare / "refs" / "heads" / "main.lock", bare / "packed-refs.lock"]
    for lock in locks:
        lock.touch()
    publish_annotations(installed.settings, folder, "desk", "v0.2.0")
    assert [path for path in (quarantine, *locks) if path.exists()] == []
    assert installed.tags() == ["desk_ann_v0.1.0", "desk_ann_v0.2.0"]


def test_what_a_killed_upload_left_half_written_is_removed(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    part = tmp_path / "storage" / UPLOADS / "files-dead" / "0"
    part.parent.mkdir()
    part.touch()
    part.parent.with_name(f"files-dead{HELD}").touch()
    publish_annotations(installed.settings, folder, "desk", "v0.2.0")
    assert not part.exists()


def test_a_push_that_the_repository_refuses_is_not_tried_again(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    hook = Path(installed.settings.dataset_repo) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho asked >> asked; echo 'only on weekdays' >&2; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(GitError, match="only on weekdays"):
        publish_annotations(installed.settings, folder, "desk", "v0.2.0")
    assert (Path(installed.settings.dataset_repo) / "asked").read_text() == "asked\n"
    assert installed.tags() == ["desk_ann_v0.1.0"]
    assert {row["version"] for row in installed.rows("versions")["versions"]} == {"v0.1.0"}


@pytest.mark.slow
def test_a_repository_that_never_answers_is_given_up_at_the_deadline(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    with silent_port() as port:
        monkeypatch.setenv("SIGHTLINE_DATASET_REPO", f"http://127.0.0.1:{port}/dataset.git")
        read_settings.cache_clear()
        with pytest.raises(GitError, match=r"git .*127\.0\.0\.1.*SIGHTLINE_DATASET_REPO"):
            publish_annotations(read_settings(), make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    assert (installed.stored(), installed.published(), installed.left_behind()) == ({}, [], [])


def services(installed: Installed) -> Services:
    database = connect(installed.settings.database_url.get_secret_value())
    database.migrate()
    return Services(DatasetRepo.of(installed.settings), database)


@pytest.mark.slow
def test_two_new_categories_at_the_same_time_both_arrive(installed, tmp_path):
    """The second is published while the first is being built, so the first's push is overtaken."""
    place = installed.settings

    def build(target: Path) -> Content:
        publish_annotations(place, make_labelme(tmp_path / "plates", ["p.png"]), "plates", "v0.1.0")
        make_labelme(target, ["d.png"])
        return Content(images=())

    publish(services(installed), "desk", "annotation", "v0.1.0", build)
    assert installed.tags() == ["desk_ann_v0.1.0", "plates_ann_v0.1.0"]
    clone = installed.clone_and_pull("main", "clone")
    assert sorted(plain(clone / "annotations" / "desk")) == ["d.json", "d.png"]
    assert sorted(plain(clone / "annotations" / "plates")) == ["p.json", "p.png"]


def cut_json(folder: Path) -> None:
    path = folder / "kitchen" / "c.json"
    path.write_bytes(path.read_bytes()[:-40])


def remove_image(folder: Path) -> None:
    (folder / "kitchen" / "c.png").unlink()


def truncate_image(folder: Path) -> None:
    path = folder / "kitchen" / "c.png"
    path.write_bytes(path.read_bytes()[:-200])


def enlarge_image(folder: Path) -> None:
    # 400 million pixels in a few kB: decoding them first would be the mistake.
    Image.new("1", (20_000, 20_000)).save(folder / "kitchen" / "c.png")


def add_foreign_json(folder: Path) -> None:
    (folder / "notes.json").write_text('{"by": "hand"}')


def empty_every_shape_list(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"shapes": []}))


def remove_every_json(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut_json, r"kitchen/c\.json: not JSON, or cut off"),
        (remove_image, r"kitchen/c\.json: kitchen/c\.png: there is no such image"),
        (truncate_image, r"kitchen/c\.png: .*cut off or damaged"),
        (enlarge_image, r"kitchen/c\.png: .*more than the limit of 150,000,000"),
        (add_foreign_json, r"notes\.json: JSON, but not labelme's"),
        (empty_every_shape_list, r"no image has a shape drawn on it"),
        (remove_every_json, r"there is no JSON file"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_and_nothing_is_written(installed, tmp_path, spoil, says):
    folder = make_labelme(tmp_path / "desk")
    spoil(folder)
    before = with_times(folder)
    with pytest.raises(SightlineError, match=says):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert with_times(folder) == before
    assert nothing_is_there(installed)


@pytest.mark.parametrize(
    ("category", "version", "says"),
    [
        ("desk", "0.1.0", r"'0\.1\.0' is not a version. Did you mean 'v0\.1\.0'"),
        ("desk", "v0.1", r"is not a version"),
        ("desk", "../v0.1.0", r"is not a version"),
        ("My Desk", "v0.1.0", r"is not a category name. Did you mean 'my-desk'"),
        ("../desk", "v0.1.0", r"is not a category name"),
        ("", "v0.1.0", r"is not a category name"),
    ],
)
def test_a_malformed_name_is_refused_and_nothing_is_written(installed, tmp_path, category, version, says):
    with pytest.raises(SightlineError, match=says):
        publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), category, version)
    assert nothing_is_there(installed)


def test_a_folder_that_does_not_exist_is_named(installed, tmp_path):
    with pytest.raises(SightlineError, match=r"absent: there is no such folder"):
        publish_annotations(installed.settings, tmp_path / "absent", "desk", "v0.1.0")
    assert nothing_is_there(installed)


def test_at_most_ten_bad_files_are_listed_and_the_rest_counted(installed, tmp_path):
    folder = make_labelme(tmp_path / "desk", [f"{index:02}.png" for index in range(13)])
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(SightlineError, match=r"missing_image \(13\)(?s:.*)00\.json(?s:.*)and 3 more") as refused:
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert "10.json" not in str(refused.value)


def test_an_unreachable_database_is_named_with_the_time_spent_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "1")
    with closed_port() as port:
        secret = f"mysql+pymysql://cv:hush@127.0.0.1:{port}/sightline"
        installed = install(tmp_path, monkeypatch, database=secret)
        told = rf"127\.0\.0\.1:{port}/sightline could not be reached: tried for"
        with pytest.raises(SightlineError, match=told) as refused:
            publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    assert "hush" not in str(refused.value)
    assert installed.stored() == {}
    assert not (tmp_path / "dataset.git").exists()
    assert installed.left_behind() == []


def test_an_unreachable_bucket_is_named_with_the_time_spent_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "2")
    installed = install(tmp_path, monkeypatch, storage="gs://nobody/there")
    with closed_port() as port:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        with pytest.raises(SightlineError, match=r"gs://nobody/there.* could not be reached: .* for \d+ s"):
            publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    assert (installed.refs(), installed.published(), installed.left_behind()) == ([], [], [])


def test_a_bucket_that_does_not_exist_is_named(tmp_path, monkeypatch, gcs_emulator):
    installed = install(tmp_path, monkeypatch, storage="gs://nobody/there")
    with pytest.raises(SightlineError, match=r"no bucket gs://nobody"):
        publish_annotations(installed.settings, make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    assert (installed.refs(), installed.published(), installed.left_behind()) == ([], [], [])


def test_a_repository_out_of_reach_is_named_without_its_password(tmp_path, monkeypatch):
    installed = install(tmp_path, monkeypatch)
    with closed_port() as port:
        monkeypatch.setenv("SIGHTLINE_DATASET_REPO", f"http://cv:hush@127.0.0.1:{port}/dataset.git")
        read_settings.cache_clear()
        with pytest.raises(SightlineError, match=r"git .* failed .*127\.0\.0\.1.*SIGHTLINE_DATASET_REPO") as refused:
            publish_annotations(read_settings(), make_labelme(tmp_path / "desk"), "desk", "v0.1.0")
    assert "hush" not in str(refused.value)
    assert (installed.stored(), installed.published(), installed.left_behind()) == ({}, [], [])


def test_after_a_failed_attempt_the_same_command_publishes(tmp_path, monkeypatch):
    installed = install(tmp_path, monkeypatch)
    folder = make_labelme(tmp_path / "desk")
    (tmp_path / "storage").write_text("a file where the storage's folder should be")
    with pytest.raises(SightlineError):
        publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert (installed.refs(), installed.published(), installed.left_behind()) == ([], [], [])
    (tmp_path / "storage").unlink()
    assert publish_annotations(installed.settings, folder, "desk", "v0.1.0").publication.new
    assert installed.published() == [("desk", "annotation", "v0.1.0")]


def nothing_is_there(installed: Installed) -> bool:
    """Neither files nor tags nor rows nor leftovers."""
    assert installed.stored() == {}
    assert not Path(installed.settings.dataset_repo).exists() or installed.refs() == []
    assert list(itertools.chain(*installed.rows().values())) == []
    assert installed.left_behind() == []
    return True


# --- whole images ----------------------------------------------------------------------------------------------------

FLAGGED = {"one.png": ("cat",), "two.png": ("cat", "dog"), "none.png": (), "other.png": ("dog",)}


def flagged(folder: Path) -> Path:
    for name, flags in FLAGGED.items():
        tick(folder, name, *flags)
    return folder


def write_recipe(installed: Installed, category: str, recipe: dict[str, object]) -> None:
    path = installed.settings.volume / "code" / "custom" / "recipes" / f"{category}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(recipe))


def test_flags_that_name_no_class_or_several_are_told_and_their_images_left_out(installed, tmp_path):
    published = publish_annotations(installed.settings, flagged(tmp_path / "pets"), "pets", "v0.1.0")
    assert [(str(found.code), found.file, str(found.outcome)) for found in published.findings] == [
        ("image_without_class", "none.json", "drop"),
        ("image_of_several_classes", "two.json", "drop"),
    ]
    assert [image["name"] for image in installed.rows("images")["images"]] == ["one.png", "other.png"]


@pytest.mark.parametrize("code", ["image_without_class", "image_of_several_classes"])
@pytest.mark.parametrize("where", ["command line", "recipe"])
def test_flags_that_the_policy_does_not_let_pass_stop_the_publication(installed, tmp_path, code, where):
    policy = {code: "fail"}
    if where == "recipe":
        write_recipe(installed, "pets", {"policy": policy})
        policy = {}
    with pytest.raises(FindingsError, match=rf"(?s)1 finding stands in the way: {code} \(1\).*Nothing was published"):
        publish_annotations(installed.settings, flagged(tmp_path / "pets"), "pets", "v0.1.0", policy=policy)
    assert installed.published() == []


def test_flags_that_the_recipe_calls_alike_are_one_class_and_unwanted_ones_are_none(installed, tmp_path):
    write_recipe(installed, "pets", {"label_map": {"dog": "cat"}, "valid_labels": ["cat"]})
    tick(tmp_path / "pets", "bird.png", "bird")
    published = publish_annotations(installed.settings, flagged(tmp_path / "pets"), "pets", "v0.1.0")
    assert [str(found.code) for found in published.findings] == ["image_without_class"]
    assert published.publication.row.image_count == 4


def test_a_set_in_which_no_image_has_one_class_says_why(installed, tmp_path):
    tick(tmp_path / "pets", "two.png", "cat", "dog")
    with pytest.raises(SightlineError, match=r"(?s)no image has one flag .*two\.json.*image_of_several_classes"):
        publish_annotations(installed.settings, tmp_path / "pets", "pets", "v0.1.0")


@pytest.mark.parametrize(("task", "hinted"), [("", True), ("detection", False)])
def test_flags_that_detection_does_not_read_are_told(installed, tmp_path, capsys, task, hinted):
    folder = make_labelme(tmp_path / "desk")
    for name in ("x.png", "y.png"):
        tick(folder, name, "plug")
    tick(folder, "nothing.png")
    assert publish_as_typed(folder, "desk", "v0.1.0", "auto", {}, task, tmp_path) == 0
    said = capsys.readouterr().out
    assert ("hint: flags and no shape: 2 images" in said and "--task classification" in said) is hinted
