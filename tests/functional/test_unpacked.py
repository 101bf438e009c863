"""An unpacked dataset version on the volume: what somebody writes to it is noticed at its next use, and nothing is lost."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.catalogue.repair import repair_versions
from sightline.catalogue.verification import verify_versions
from sightline.errors import SightlineError
from sightline.services.versioning import datasets
from sightline.services.versioning.datasets import STAMPS, file_names, find_dataset, pull_dataset
from sightline.settings import read_settings
from tests.catalogued import OLD_SET, make_first, write_code
from tests.installed import Installed, install


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    from sightline.publish.annotations import publish_annotations
    from sightline.steps.record.record import record_dataset

    folder = tmp_path_factory.mktemp("unpacked")
    with pytest.MonkeyPatch.context() as environment:
        installed = install(folder / "here", environment)
        make_first(folder / "labelme")
        commit = publish_annotations(installed.settings, folder / "labelme", "desk", "v0.1.0").publication.row.commit
        record_dataset(write_code(folder, 0), "desk", "v0.1.0", str(commit))
    read_settings.cache_clear()
    yield installed


@pytest.fixture
def unpacked(recorded: Installed) -> Path:
    """The dataset version as record left it; what a test before did to it is gone."""
    folder = pull(recorded)
    shutil.rmtree(folder.parent)
    return pull(recorded)


def pull(installed: Installed) -> Path:
    return pull_dataset(installed.settings, find_dataset(installed.settings, "desk", "v0.1.0"))


def kept(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob("*.changed-*"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in file_names(folder)}


def edit_same_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2] + b" }")


def edit_keeping_time(path: Path) -> None:
    found = path.stat()
    path.write_bytes(path.read_bytes() + b" ")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("edit", [edit_same_size, edit_keeping_time, Path.unlink], ids=lambda edit: edit.__name__)
@pytest.mark.parametrize("name", ["train.json", "an image"])
def test_an_edited_file_is_unpacked_anew_and_the_edited_one_kept(recorded, unpacked, caplog, edit, name):
    right = contents(unpacked)
    name = name if name in right else next(each for each in right if each.startswith("images/"))
    edit(unpacked / name)
    edited = (unpacked / name).read_bytes() if (unpacked / name).exists() else None
    with caplog.at_level(logging.WARNING):
        assert pull(recorded) == unpacked
    assert contents(unpacked) == right
    assert name in caplog.text and str(unpacked) in caplog.text
    assert [contents(folder) for folder in kept(unpacked)] == ([{name: edited}] if edited is not None else [])


def test_files_that_were_only_touched_are_compared_once(recorded, unpacked, monkeypatch):
    for name in contents(unpacked):
        os.utime(unpacked / name)
    pull(recorded)
    monkeypatch.setattr(datasets, "mend_dataset", None)
    assert pull(recorded) == unpacked
    assert kept(unpacked) == []


def test_a_copy_of_before_there_were_stamps_is_compared_and_used(recorded, unpacked):
    (unpacked / STAMPS).unlink()
    (unpacked / "val.json").write_text("{}")
    assert contents(pull(recorded))["val.json"] != b"{}"
    (there,) = kept(unpacked)
    assert contents(there) == {"val.json": b"{}"}


def test_what_others_put_beside_the_files_is_left_alone(recorded, unpacked):
    (unpacked / "notes.txt").write_text("mine")
    (unpacked / "test.json").write_text("{}")
    pull(recorded)
    assert (unpacked / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("note", ["[1]", "5", "null", "[" * 100_000], ids=["list", "number", "null", "deep"])
def test_a_note_that_is_none_makes_one_compare(recorded, unpacked, note):
    right = contents(unpacked)
    (unpacked / STAMPS).write_text(note)
    (unpacked / "train.json").write_text("{}")
    pull(recorded)
    assert contents(unpacked) == right


def test_a_file_in_the_place_of_a_folder_is_moved_away(recorded, unpacked):
    right = contents(unpacked)
    shutil.rmtree(unpacked / "images")
    (unpacked / "images").write_text("not a folder")
    pull(recorded)
    assert contents(unpacked) == right
    assert [(folder / "images").read_text() for folder in kept(unpacked)] == ["not a folder"]


def test_a_file_that_cannot_be_replaced_is_named(recorded, unpacked, monkeypatch):
    (unpacked / "train.json").write_text("{}")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SightlineError, match=r"train\.json is not the dataset version's and cannot be replaced"):
        pull(recorded)
    assert (unpacked / "train.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["train.json", "an image"])
def test_verify_full_compares_every_unpacked_file_and_repair_mends_it(recorded, unpacked, name):
    right = contents(unpacked)
    name = name if name in right else next(each for each in right if each.startswith("images/"))
    found = (unpacked / name).stat()
    data = right[name]
    (unpacked / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(unpacked / name, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert pull(recorded) == unpacked, "of the same size and time: only a look at everything finds it"
    seen = verify_versions(recorded.settings, full=True)
    (problem,) = next(one for one in seen.versions if one.tag == OLD_SET).problems
    assert (problem.trouble, problem.files) == ("copy-differs", (name,))
    assert contents(unpacked) != right, "verifying changes nothing"
    assert [deed.done for deed in repair_versions(recorded.settings, seen)] == [True]
    assert contents(unpacked) == right
    assert verify_versions(recorded.settings, full=True).ok
