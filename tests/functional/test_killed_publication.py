"""Kill -9 at every step of the protocol: what a reader sees then, and what the next attempt makes of it.

The installation is shared by the cases of one service; each publishes a version of its own.
"""

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sightline.publish.annotations import publish_annotations
from sightline.services.storage.access import open_storage
from sightline.services.versioning.claims import LEASE_SECONDS
from sightline.services.versioning.publication import PROTOCOL
from sightline.services.versioning.shards import unpack
from sightline.settings import read_settings
from sightline.steps.record.record import record_dataset
from tests.installed import Installed, install, run
from tests.make_labelme import annotate, box
from tests.mariadb import new_database
from tests.publishers import Kill, all_kills, result_of, run_publisher, start_honest_publisher
from tests.services import make_bucket

KILLS = all_kills()


def at_every_step(*quick: str) -> pytest.MarkDecorator:
    """A case of each kill; `make test` has time for few."""
    cases = [pytest.param(kill, id=str(kill), marks=() if str(kill) in quick else pytest.mark.slow) for kill in KILLS]
    return pytest.mark.parametrize("kill", cases)


COMMON = ("a.png", "b.png")


@pytest.fixture(scope="module", params=["files", pytest.param("cloud", marks=pytest.mark.slow)])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Files with SQLite, or the Cloud Storage emulator with MariaDB; one for all cases of this module."""
    folder = tmp_path_factory.mktemp(request.param)
    storage = database = ""
    if request.param == "cloud":
        storage = f"gs://{make_bucket(request.getfixturevalue('gcs_emulator'))}/team"
    with contextlib.ExitStack() as stack:
        if request.param == "cloud":
            database = stack.enter_context(new_database(request.getfixturevalue("mariadb_server")))
        yield install(folder, stack.enter_context(pytest.MonkeyPatch.context()), storage, database)
    read_settings.cache_clear()


@pytest.fixture(scope="module")
def annotated(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A published annotation version to record, desk v9.0.0: its commit."""
    folder = tmp_path_factory.mktemp("desk")
    _draw(folder, "recorded")
    commit: str = result_of(publish, folder, "v9.0.0")[1]
    return commit


def publish(folder: Path, version: str) -> tuple[bool, str]:
    made = publish_annotations(read_settings(), folder, "desk", version).publication
    return made.new, str(made.row.commit)


def record(code: Path, commit: str) -> str:
    return record_dataset(str(code), "desk", "v9.0.0", commit).dataset.version


def pull(repository: str, tag: str, clone: Path, anonymous: bool) -> None:
    """What a stranger gets at a tag: a fresh clone with a cache of its own."""
    from dvc.repo import Repo

    os.environ["DVC_SITE_CACHE_DIR"] = f"{clone}-site"
    run("git", "clone", "--quiet", repository, str(clone))
    run("git", "-C", str(clone), "checkout", "--quiet", tag)
    config = {"remote": {name: {"allow_anonymous_login": True} for name in ("annotations", "datasets")}}
    with Repo(str(clone), config=config if anonymous else {}) as dvc:
        dvc.pull()


@at_every_step("before-verify", "before-write_rows")  # nothing is public yet; the tag is, its rows are not
def test_a_killed_publication_is_finished_by_the_next_attempt(installed: Installed, tmp_path: Path, kill: Kill) -> None:
    version = f"v1.{KILLS.index(kill)}.0"
    folder = tmp_path / "desk"
    _draw(folder, version)
    assert run_publisher(publish, folder, version, kill=kill).killed
    _require_whole(installed, f"desk_ann_{version}", tmp_path / "between")
    began = time.monotonic()
    new, _ = result_of(publish, folder, version)
    assert time.monotonic() - began < LEASE_SECONDS / 2, "a dead owner on this machine is not waited for"
    assert new == (kill != Kill("after", PROTOCOL[-1].__name__))
    clone = _require_whole(installed, f"desk_ann_{version}", tmp_path / "after")
    assert clone is not None
    pulled = clone / "annotations" / "desk"
    assert {name: digest for name, digest in _digests(pulled).items() if name.endswith(".png")} == _digests_of_rows(
        installed, "annotation", version
    )
    _require_nothing_left(installed)


@at_every_step("in-write_rows")  # in the transaction
def test_a_killed_recording_is_finished_by_the_next_attempt(
    installed: Installed, annotated: str, tmp_path: Path, kill: Kill
) -> None:
    code = tmp_path / "record-0123456789abcdef"
    recipe = {"seed": KILLS.index(kill), "fractions": {"train": 1, "val": 0, "test": 0}}
    (code / "configs" / "categories").mkdir(parents=True)
    (code / "configs" / "categories" / "desk.yaml").write_text(yaml.safe_dump(recipe))
    before = _published(installed, "dataset")
    assert run_publisher(record, code, annotated, kill=kill).killed
    version = f"v9.0.{len(before)}"
    tag = f"desk_train_{version}"
    _require_whole(installed, tag, tmp_path / "between")
    assert result_of(record, code, annotated) == version
    assert _published(installed, "dataset") == sorted([*before, version])
    clone = _require_whole(installed, tag, tmp_path / "after")
    assert clone is not None
    unpack(clone / "datasets" / "desk", tmp_path / "unpacked")
    images = {
        name: digest for name, digest in _digests(tmp_path / "unpacked" / "images").items() if name.endswith(".png")
    }
    assert images == _digests_of_rows(installed, "dataset", version)
    _require_nothing_left(installed)


@pytest.mark.slow
def test_afterwards_a_stranger_gets_every_version(installed: Installed, annotated: str, tmp_path: Path) -> None:
    rows = installed.rows("versions")["versions"]
    assert sorted(row["tag"] for row in rows) == installed.tags()
    assert {row["status"] for row in rows} == {"published"}
    clone = installed.clone_and_pull("desk_ann_v9.0.0", "every version")
    with pytest.MonkeyPatch.context() as environment:
        environment.chdir(clone)
        result_of(fetch_all, clone, installed.settings.storage.startswith("gs://"))
    cached = {path.parent.name + path.name for path in (clone / ".dvc" / "cache").glob("files/md5/*/*")}
    assert {str(row["digest"]) for row in rows} <= cached


def fetch_all(clone: Path, anonymous: bool) -> None:
    from dvc.repo import Repo

    config = {"remote": {name: {"allow_anonymous_login": True} for name in ("annotations", "datasets")}}
    with Repo(str(clone), config=config if anonymous else {}) as dvc:
        dvc.fetch(all_tags=True)


HONEST = """
import sys
from pathlib import Path
from sightline.services.versioning import publication
from tests.functional.test_killed_publication import publish
def stop(attempt):
    print("here", file=sys.stderr, flush=True)
    sys.stdin.read()
at = [step.__name__ for step in publication.PROTOCOL].index("tag")
publication.PROTOCOL = (*publication.PROTOCOL[:at], stop, *publication.PROTOCOL[at:])
publish(Path(sys.argv[1]), "v8.0.0")
"""


@pytest.mark.slow
def test_a_program_of_its_own_is_killed_and_another_takes_over(installed: Installed, tmp_path: Path) -> None:
    _draw(tmp_path / "desk", "honest")
    process = start_honest_publisher(HONEST, str(tmp_path / "desk"))
    assert process.stderr is not None
    said = b""
    while b"here" not in said:
        line = process.stderr.readline()
        assert line, said.decode()
        said += line
    holder = next(row["owner"] for row in installed.rows("versions")["versions"] if row["status"] == "pending")
    assert holder.startswith(f"process {process.pid} on ")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert result_of(publish, tmp_path / "desk", "v8.0.0")[0] is True
    _require_nothing_left(installed)


def _draw(folder: Path, text: str) -> None:
    """Three annotated images, of which one is in no other version."""
    for name in (*COMMON, f"only in {text}.png"):
        annotate(folder, name, [box()])


def _require_whole(installed: Installed, tag: str, clone: Path) -> Path | None:
    """No published row without its tag, one row per version, and this tag can be pulled if it is public."""
    rows = installed.rows("versions")["versions"]
    tags = installed.tags()
    assert {row["tag"] for row in rows if row["status"] == "published"} <= set(tags)
    keys = [(row["kind"], row["version"]) for row in rows]
    assert len(keys) == len(set(keys))
    if tag not in tags:
        return None
    result_of(pull, installed.settings.dataset_repo, tag, clone, installed.settings.storage.startswith("gs://"))
    return clone


def _require_nothing_left(installed: Installed) -> None:
    assert installed.left_behind() == []
    assert [row for row in installed.rows("versions")["versions"] if row["status"] != "published"] == []
    bare, volume = Path(installed.settings.dataset_repo), installed.settings.volume
    assert [path for path in bare.rglob("*") if path.suffix == ".lock" or path.name.startswith("tmp_")] == []
    assert list(bare.parent.glob(f".{bare.name}*")) == []
    assert list(volume.rglob("*.tmp")) == []
    assert not (volume / "dvc-site").exists()
    stored = {key for key in installed.stored() if key.startswith("dvc/")}
    assert stored == _referenced(installed)


def _referenced(installed: Installed) -> set[str]:
    """Every object that some tag needs."""
    storage, needed = open_storage(installed.settings.storage), set()
    for tag in installed.tags():
        remote = "annotations" if "_ann_" in tag else "datasets"
        pointer = run("git", "-C", installed.settings.dataset_repo, "show", f"{tag}:{remote}/desk.dvc")
        listing = _key(remote, yaml.safe_load(pointer)["outs"][0]["md5"])
        needed |= {listing} | {_key(remote, entry["md5"]) for entry in json.loads(storage.read_bytes(listing))}
    return needed


def _key(remote: str, digest: str) -> str:
    return f"dvc/{remote}/files/md5/{digest[:2]}/{digest[2:]}"


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _digests_of_rows(installed: Installed, kind: str, version: str) -> dict[str, str]:
    rows = installed.rows("versions", "images")
    (found,) = [row for row in rows["versions"] if (row["kind"], row["version"]) == (kind, version)]
    return {row["name"]: row["sha256"] for row in rows["images"] if row["version_id"] == found["id"]}


def _published(installed: Installed, kind: str) -> list[str]:
    return sorted(version for _, found, version in installed.published() if found == kind)
