"""`pipeline.py doctor` on installations of which one thing is broken; tests/cluster/test_doctor.py has a real cluster."""

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from laptop.doctor import cluster as in_cluster
from laptop.doctor import here
from laptop.doctor.lines import Line, look
from laptop.workspace import LIBRARY
from sightline.publish.annotations import publish_annotations
from sightline.settings import Settings
from tests.kube_api import write_kubeconfig
from tests.kube_tunnels import Cluster, pod, serve_cluster
from tests.make_labelme import make_labelme
from tests.ports import closed_port
from tests.workspace import REPOSITORY, run_pipeline

NAMES = ["python", "GPU", "disk", "database", "storage", "repository", "volume"]
PASSWORD = "canary-7f3a"
Broken = Callable[[Path], dict[str, str]]
"""Breaks one thing of an installation in a folder; the settings that lead to it."""


def doctor(folder: Path, *options: str, **settings: str) -> tuple[int, dict[str, Line], str]:
    """The exit status, the lines by name, and all that was printed."""
    done = run_pipeline(
        "--workspace", str(folder), "doctor", "--json", *options, environment={"SIGHTLINE_TIMEOUT": "2", **settings}
    )
    entries = json.loads(done.stdout)
    assert [entry for entry in entries if entry["state"] != "ok" and not entry["do"]] == []
    lines = [Line.read(entry) for entry in entries]
    return done.returncode, {line.name: line for line in lines}, done.stdout + done.stderr


def states(lines: dict[str, Line]) -> dict[str, str]:
    """Of a disk as full as this machine's may be, it is said so."""
    return {name: "ok" if (name, line.state) == ("disk", "note") else line.state for name, line in lines.items()}


def test_all_is_well_on_a_new_laptop_and_nothing_is_left(tmp_path):
    status, lines, _ = doctor(tmp_path / "new")
    assert (status, states(lines)) == (0, dict.fromkeys(NAMES, "ok"))
    for name in ("database", "storage", "repository", "volume"):
        assert lines[name].found.endswith("the first command makes it")
    assert list(tmp_path.iterdir()) == [], "a look makes nothing"


def test_all_is_well_where_versions_are(installed):
    settings = installed.settings
    asked = {
        "SIGHTLINE_DATABASE_URL": settings.database_url.get_secret_value(),
        "SIGHTLINE_STORAGE": settings.storage,
        "SIGHTLINE_DATASET_REPO": settings.dataset_repo,
        "SIGHTLINE_VOLUME": str(settings.volume),
    }
    (settings.volume / "code").parent.mkdir()
    (settings.volume / "code").symlink_to(LIBRARY, target_is_directory=True)
    publish_annotations(settings, make_labelme(installed.folder / "desk"), "desk", "v0.1.0")
    before = installed.state()
    status, lines, _ = doctor(installed.folder / "workspace", **asked)
    assert (status, states(lines)) == (0, dict.fromkeys([*NAMES, "prune", "versions"], "ok"))
    assert (
        lines["versions"].found == "1 version in the database, 1 in the repository, 1 of the database's in the storage"
    )
    assert re.fullmatch(r"python pipeline.py prune would free \d[\d.]* (bytes|.B)", lines["prune"].found)
    assert "tables are up to date" in lines["database"].found
    assert "writable" in lines["repository"].found
    assert installed.state() == before


def no_server(_: Path) -> dict[str, str]:
    with closed_port() as port:
        return {"SIGHTLINE_DATABASE_URL": f"mysql+pymysql://sightline:{PASSWORD}@127.0.0.1:{port}/sightline"}


def no_database_file(folder: Path) -> dict[str, str]:
    (folder / "a file").write_text("no database")
    return {"SIGHTLINE_DATABASE_URL": f"sqlite:///{folder / 'a file'}"}


def no_tables(folder: Path) -> dict[str, str]:
    (folder / "new.db").touch()
    return {"SIGHTLINE_DATABASE_URL": f"sqlite:///{folder / 'new.db'}"}


def no_bucket(_: Path) -> dict[str, str]:
    with closed_port() as port:
        return {"SIGHTLINE_STORAGE": "gs://nowhere/x", "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


def no_repository(_: Path) -> dict[str, str]:
    with closed_port() as port:
        return {"SIGHTLINE_DATASET_REPO": f"http://me:{PASSWORD}@127.0.0.1:{port}/datasets.git"}


def read_only_repository(folder: Path) -> dict[str, str]:
    bare = folder / "datasets.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    hook = bare / "objects"
    hook.rename(bare / "kept")
    hook.write_text("")
    return {"SIGHTLINE_DATASET_REPO": str(bare)}


def volume_without_code(folder: Path) -> dict[str, str]:
    (folder / "volume").mkdir()
    return {"SIGHTLINE_VOLUME": str(folder / "volume")}


def volume_with_accents(folder: Path) -> dict[str, str]:
    (folder / "é").mkdir()
    (folder / "é" / "code").symlink_to(LIBRARY, target_is_directory=True)
    return {"SIGHTLINE_VOLUME": str(folder / "é")}


def no_git(folder: Path) -> dict[str, str]:
    return {"PATH": str(folder)}


def password_with_an_at(_: Path) -> dict[str, str]:
    return {"SIGHTLINE_DATABASE_URL": f"mysql+pymysql://u:p@{PASSWORD}%w@127.0.0.1:1/x"}


def password_with_a_slash(_: Path) -> dict[str, str]:
    return {"SIGHTLINE_DATABASE_URL": f"mysql+pymysql://u:p@{PASSWORD}/w@127.0.0.1:1/x"}


BROKEN: dict[str, tuple[Broken, str, str, str]] = {
    "a path that DVC cannot write down": (volume_with_accents, "repository", "fail", "ASCII only"),
    "no git": (no_git, "repository", "fail", "git is not installed"),
    "a password with a slash": (password_with_a_slash, "database", "fail", "write %40 for each"),
    "a password with an @": (password_with_an_at, "database", "fail", "write %40 for each"),
    "a database in memory": (lambda _: {"SIGHTLINE_DATABASE_URL": "sqlite://"}, "database", "fail", "needs a file"),
    "no database server": (no_server, "database", "fail", "could not be reached: tried for"),
    "a file that is no database": (no_database_file, "database", "fail", "a file"),
    "no tables yet": (no_tables, "database", "note", "it has no tables yet"),
    "no bucket": (no_bucket, "storage", "fail", "gs://nowhere/x"),
    "no repository": (no_repository, "repository", "fail", "git ls-remote failed"),
    "a damaged repository": (read_only_repository, "repository", "fail", "datasets.git"),
    "a volume without code": (volume_without_code, "volume", "fail", "holds no helper code yet"),
    "a bad setting": (lambda _: {"SIGHTLINE_KEEP_DAYS": "soon"}, "settings", "fail", "SIGHTLINE_KEEP_DAYS"),
    "a volume that cannot be written": (
        lambda _: {"SIGHTLINE_VOLUME": "/proc/sys"},
        "volume",
        "fail",
        "cannot be written",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_told_and_the_rest_is_looked_at_all_the_same(tmp_path, what):
    break_it, name, state, told = BROKEN[what]
    status, lines, printed = doctor(tmp_path / "workspace", **break_it(tmp_path))
    assert lines[name].state == state and told in f"{lines[name].found} {lines[name].do}"
    assert status == (state == "fail")
    others = {other: line.state for other, line in lines.items() if other not in (name, "workspace", "disk")}
    assert set(others.values()) == {"ok"} and len(others) >= 2
    assert PASSWORD not in printed and "Traceback" not in printed


def test_a_workspace_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    status, lines, _ = doctor(tmp_path / "file")
    assert status == 1 and "cannot be made" in lines["workspace"].found and lines["python"].state == "ok"
    assert "settings" not in lines


def test_a_workspace_that_cannot_be_written_is_told_and_is_no_matter_of_settings(tmp_path):
    status, lines, _ = doctor(Path("/proc/sys/sightline"))
    failing = {name: line.found for name, line in lines.items() if line.state == "fail"}
    assert status == 1 and set(failing) == {"workspace", "database", "storage", "repository", "volume"}
    assert all("cannot be made" in found for found in failing.values())


# --- versions in some of database, storage and repository -------------------------------------------------------------


@pytest.fixture(scope="module")
def with_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which a version is published."""
    folder = tmp_path_factory.mktemp("with versions")
    published = run_pipeline(
        "--workspace",
        str(folder / "w"),
        "publish",
        str(make_labelme(folder / "desk")),
        "--category=desk",
        "--version=v0.1.0",
    )
    assert published.returncode == 0, published.stderr
    return folder / "w"


MISTYPED = {
    "database": ("SIGHTLINE_DATABASE_URL", "sqlite:///{}/other.db"),
    "storage": ("SIGHTLINE_STORAGE", "file://{}/other"),
    "repository": ("SIGHTLINE_DATASET_REPO", "{}/other.git"),
}


@pytest.mark.parametrize("name", MISTYPED)
def test_what_is_not_there_is_no_new_one_where_the_others_hold_versions(with_versions, tmp_path, name):
    variable, value = MISTYPED[name]
    before = sorted(with_versions.rglob("*"))
    status, lines, _ = doctor(with_versions, **{variable: value.format(tmp_path)})
    assert status == 1 and states(lines)[name] == "fail"
    assert {other: lines[other].state for other in MISTYPED if other != name} == dict.fromkeys(
        set(MISTYPED) - {name}, "ok"
    )
    assert "is not there, while versions are in" in lines[name].found
    assert all(f"the {other} " in lines[name].found for other in MISTYPED if other != name)
    assert variable in lines[name].do and "lost" in lines[name].do
    assert list(tmp_path.iterdir()) == [] and sorted(with_versions.rglob("*")) == before, "a look makes nothing"


def test_one_that_is_there_and_empty_is_not_that_of_the_versions_either(with_versions, tmp_path):
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "empty.git")], check=True)
    status, lines, _ = doctor(with_versions, SIGHTLINE_DATASET_REPO=str(tmp_path / "empty.git"))
    assert status == 1 and "holds no version, while versions are in" in lines["repository"].found


def lose_a_tag(folder: Path) -> None:
    subprocess.run(["git", "-C", folder / "dataset.git", "tag", "--delete", "desk_ann_v0.1.0"], check=True)


def lose_a_row(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "sightline.db")) as database, database:
        database.executescript(
            "DELETE FROM findings; DELETE FROM images; DELETE FROM versions WHERE version = 'v0.1.0'"
        )


def lose_a_listing(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "sightline.db")) as database:
        ((digest,),) = database.execute("SELECT digest FROM versions WHERE version = 'v0.1.0'").fetchall()
    (folder / "storage" / "dvc" / "annotations" / "files" / "md5" / digest[:2] / digest[2:]).unlink()


@pytest.mark.parametrize(
    ("lose", "told"),
    [
        (lose_a_tag, "2 versions in the database, 1 in the repository, 2 of the database's in the storage: the repository has no tag"),
        (lose_a_row, "1 version in the database, 2 in the repository, 1 of the database's in the storage: the database has no row"),
        (lose_a_listing, "2 versions in the database, 2 in the repository, 1 of the database's in the storage: the storage has no list of files"),
    ],
)  # fmt: skip
def test_one_version_that_some_of_them_lacks_is_told(with_versions, tmp_path, lose, told):
    folder = Path(shutil.copytree(with_versions, tmp_path / "w", symlinks=True))
    make_labelme(tmp_path / "more", ["more.png"])
    again = ("publish", str(tmp_path / "more"), "--category=desk", "--version=v0.2.0")
    assert run_pipeline("--workspace", str(folder), *again).returncode == 0
    lose(folder)
    status, lines, _ = doctor(folder)
    assert status == 1 and lines["versions"].found == f"{told} of desk_ann_v0.1.0"
    assert "verify --repair" in lines["versions"].do and "SIGHTLINE_DATASET_REPO" in lines["versions"].do


def test_a_person_sees_what_fails_and_what_to_do(tmp_path):
    done = run_pipeline("--workspace", str(tmp_path / "w"), "doctor", environment=volume_without_code(tmp_path))
    assert "\nFAIL  volume      " in done.stdout and "\n                  do: python pipeline.py sync" in done.stdout
    assert done.stdout.endswith("1 of 7 fail\n")


def empty_objects(bare: Path) -> None:
    for file in filter(Path.is_file, (bare / "objects").rglob("*")):
        file.chmod(0o644)
        file.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty objects": empty_objects,
    "garbage in HEAD": lambda bare: (bare / "HEAD").write_text("garbage"),
    "no objects": lambda bare: shutil.rmtree(bare / "objects"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_repository_is_called_so_by_doctor_and_by_who_reads_it(with_versions, tmp_path, damage):
    folder = Path(shutil.copytree(with_versions, tmp_path / "w", symlinks=True))
    DAMAGES[damage](folder / "dataset.git")
    status, lines, _ = doctor(folder)
    assert status == 1 and f"{folder}/dataset.git is damaged" in lines["repository"].found
    make_labelme(tmp_path / "more", ["more.png"])
    for typed in ("verify", f"publish {tmp_path}/more --category desk --version v0.2.0"):
        error = run_pipeline("--workspace", str(folder), *typed.split()).stderr
        for said in (error, lines["repository"].do):
            assert "Put a copy of it there again" in said and "access" not in said.partition("Put a copy")[2]
        assert "is damaged" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "meant"), [("SIGHTLINE_DATABSE_URL", "SIGHTLINE_DATABASE_URL"), ("SIGHTLINE_XYZ", "")]
)
def test_a_setting_that_nothing_reads_is_named_with_the_nearest(tmp_path, name, meant):
    pods_own = {"SIGHTLINE_MYSQL_SERVICE_HOST": "10.0.0.1", "SIGHTLINE_MYSQL_PORT_3306_TCP_ADDR": "10.0.0.1"}
    read = {"SIGHTLINE_TIMEOUT": "2", "SIGHTLINE_TAG": "v1", "SIGHTLINE_KEEP_DAYS": "3", "SIGHTLINE_CLAIM": "mine"}
    _, lines, printed = doctor(tmp_path / "w", **{name: "sqlite:///x"}, **pods_own, **read)
    assert lines["settings"].state == "note" and printed.count("nothing reads") == 1
    assert lines["settings"].found == f"nothing reads {name}." + (f" Did you mean {meant!r}?" if meant else "")


def test_what_prune_would_free_is_skipped_in_words_where_it_cannot_be_told(with_versions, tmp_path):
    folder = Path(shutil.copytree(with_versions, tmp_path / "w", symlinks=True))
    empty_objects(folder / "dataset.git")
    _, lines, _ = doctor(folder)
    assert lines["prune"].state == "skip" and "cannot be told" in lines["prune"].found


@pytest.mark.parametrize(
    ("change", "state", "told"),
    [
        ("DROP TABLE steps; DROP TABLE evaluations", "fail", "has lost tables: evaluations, steps"),
        ("DROP TABLE alembic_version", "fail", "has lost tables: alembic_version"),
        ("UPDATE alembic_version SET version_num = '9999'", "note", "its tables are of a newer Sightline (9999"),
    ],
)
def test_tables_that_are_lost_or_newer_are_told(with_versions, tmp_path, change, state, told):
    folder = Path(shutil.copytree(with_versions, tmp_path / "w", symlinks=True))
    with contextlib.closing(sqlite3.connect(folder / "sightline.db")) as database, database:
        database.executescript(change)
    _, lines, _ = doctor(folder)
    assert (lines["database"].state, told in lines["database"].found) == (state, True), lines["database"]
    assert "up to date" not in lines["database"].found


# Root may write everything, but for this.
ORDINARY = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()


def ordinary_doctor(folder: Path) -> subprocess.CompletedProcess[str]:
    """What doctor says to a user who may not write everything."""
    command = [sys.executable, str(REPOSITORY / "pipeline.py"), "--workspace", str(folder), "doctor", "--json"]
    return subprocess.run([*ORDINARY, *command], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not (shutil.which("setpriv") or os.geteuid()), reason="root without setpriv may write everything")
@pytest.mark.parametrize(("locked", "told"), [("sightline.db", "the file is not writable"), (".", "its folder is not")])
def test_a_database_that_can_only_be_read_is_told(with_versions, tmp_path, locked, told):
    folder = Path(shutil.copytree(with_versions, tmp_path / "w", symlinks=True))
    (folder / locked).chmod(0o555)
    try:
        done = ordinary_doctor(folder)
        lines = {entry["name"]: entry for entry in json.loads(done.stdout)}
    finally:
        (folder / locked).chmod(0o755)
    assert done.returncode == 1 and lines["database"]["state"] == "fail"
    assert told in lines["database"]["found"] and "owner" in lines["database"]["do"]


@pytest.mark.skipif(not (shutil.which("setpriv") or os.geteuid()), reason="root without setpriv may write everything")
def test_a_storage_that_cannot_be_written_is_named_by_its_folder(with_versions, tmp_path):
    folder = Path(shutil.copytree(with_versions, tmp_path / "w", symlinks=True))
    (folder / "storage").chmod(0o555)
    try:
        lines = json.loads(ordinary_doctor(folder).stdout)
    finally:
        (folder / "storage").chmod(0o755)
    (line,) = (entry for entry in lines if entry["name"] == "storage")
    assert (line["state"], line["found"]) == ("fail", f"No permission for {folder}/storage.")


def test_a_full_disk_is_named_and_not_the_repositorys_setting(with_versions, tmp_path):
    """Where git is stopped by one, and where a command of ours is: /dev/full is one."""
    (tmp_path / "git").write_text("#!/bin/sh\necho 'fatal: /x/repo: No space left on device' >&2; exit 128\n")
    (tmp_path / "git").chmod(0o755)
    beside = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    error = run_pipeline("--workspace", str(with_versions), "verify", environment=beside).stderr
    assert error.startswith("error: The disk is full: git ") and "/x/repo: No space left on device" in error
    assert "prune shows what may go" in error and "SIGHTLINE_DATASET_REPO" not in error
    command = [sys.executable, str(REPOSITORY / "pipeline.py"), "--workspace", str(with_versions), "versions"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode and done.stderr.startswith(
        f"error: the disk is full: something in {with_versions}, or the output, cannot"
    )


def test_what_is_proposed_next_can_be_typed_in_the_same_folder(tmp_path):
    make_labelme(tmp_path / "desk", ["a.png"])
    command = [sys.executable, os.path.relpath(REPOSITORY / "pipeline.py", tmp_path)]
    published = [*command, "publish", "desk", "--category=desk", "--version=v0.1.0"]
    done = subprocess.run(published, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.endswith(f"\nnext: python {command[1]} local --category desk\n"), done.stderr
    assert (tmp_path / command[1]).is_file()


LOOKS = (
    "versions",
    "verify",
    "prune",
    "diff desk_ann_v0.1.0 desk_ann_v0.1.0",
    "annotate desk_ann_v0.1.0 --folder none",
)


@pytest.mark.parametrize("command", [*LOOKS, "export desk_ann_v0.1.0 --format coco", "doctor"])
def test_no_command_that_looks_makes_a_workspace(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    done = run_pipeline(*command.split())
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path_factory, monkeypatch):
    """Typed in an empty folder, where a command may leave what it was asked for."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.mark.parametrize("command", [*LOOKS, "doctor"])
def test_no_command_that_looks_makes_a_database_where_a_setting_is_mistyped(
    with_versions, elsewhere, tmp_path, command
):
    database = {"SIGHTLINE_DATABASE_URL": f"sqlite:///{tmp_path}/typo/typo.db"}
    done = run_pipeline("--workspace", str(with_versions), *command.split(), environment=database)
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("storage", ["{}/plain", "~/plain", "plain/relative"])
def test_doctor_makes_no_storage_that_is_a_plain_path(with_versions, tmp_path, monkeypatch, storage):
    monkeypatch.chdir(tmp_path)
    status, lines, _ = doctor(with_versions, SIGHTLINE_STORAGE=storage.format(tmp_path), HOME=str(tmp_path))
    assert status == 1 and f"{tmp_path.as_uri()}/plain" in lines["storage"].found
    assert "is not there, while versions are in" in lines["storage"].found
    assert list(tmp_path.iterdir()) == []


def test_doctor_leaves_nothing_on_a_volume_that_is_empty(with_versions, tmp_path):
    (tmp_path / "code").symlink_to(LIBRARY, target_is_directory=True)
    status, lines, _ = doctor(with_versions, SIGHTLINE_VOLUME=str(tmp_path))
    assert status == 0 and [path.name for path in tmp_path.iterdir()] == ["code"]


@pytest.mark.parametrize("command", LOOKS)
def test_no_command_that_looks_makes_a_repository_where_a_setting_is_mistyped(
    with_versions, elsewhere, tmp_path, command
):
    repository = {"SIGHTLINE_DATASET_REPO": str(tmp_path / "other.git")}
    done = run_pipeline("--workspace", str(with_versions), *command.split(), environment=repository)
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


# --- Python, GPU and disk, which a test cannot break for real --------------------------------------------------------


def test_packages_that_are_not_those_of_the_lock_are_named(tmp_path, monkeypatch):
    (tmp_path / "dev.txt").write_text(
        '# made by uv\npydantic==1.0.0\nno-such-package==2.0\nnumpy==1 ; python_version < "3"\n'
    )
    monkeypatch.setattr(here, "LOCKS", tmp_path)
    line = here.check_python()
    assert line.state == "fail" and line.do.startswith("make setup")
    assert "no-such-package is missing instead of 2.0" in line.found and "instead of 1.0.0" in line.found
    assert "numpy" not in line.found


def test_another_python_is_told(monkeypatch):
    monkeypatch.setattr(here.sys, "version_info", (3, 9, 1))
    assert here.check_python().found == "3.9.1; 3.11 to 3.13 is needed"


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "state"), [(10**9, "fail"), (5 * 10**9, "note"), (90 * 10**9, "ok")])
def test_a_full_disk_is_told(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(here.shutil, "disk_usage", lambda _: Usage(100 * 10**9, 0, free))
    settings = Settings(
        storage=f"file://{tmp_path}", database_url="sqlite://", dataset_repo="", volume=tmp_path / "no" / "such"
    )
    (line,) = here.check_disk(settings)
    assert line.state == state and f"{free / 1e9:.1f} GB of 100 GB are free for volume and storage" in line.found


@pytest.mark.parametrize(("torch", "state"), [("2.9.0+cpu", "note"), ("", "ok")])
def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch, torch, state):
    monkeypatch.setattr(here.Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    monkeypatch.setattr(here, "_version", lambda _: torch)
    assert here.check_gpu().state == state


def test_a_line_of_another_doctor_that_says_not_what_to_do_is_parted():
    old = Line.read({"name": "a", "state": "fail", "found": "x at 10.0.0.3 is away (no route). Check the network."})
    assert (old.found, old.do) == ("x at 10.0.0.3 is away (no route).", "Check the network.")
    assert Line.read({"name": "a", "state": "fail", "found": "it is away"}).do


def test_checks_that_raise_are_lines_and_keep_their_order():
    def fail() -> Line:
        raise OSError(28, "No space left on device")

    lines = look({"a": lambda: [], "b": fail, "c": lambda: Line("c", "ok", "")})
    assert [(line.name, line.state) for line in lines] == [("b", "fail"), ("c", "ok")]
    assert "No space left on device" in lines[0].found


# --- a cluster -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """An installation as the API shows it; it takes no pods, as from an account that may only read."""
    objects = {
        "configmaps/sightline-config": {
            "data": {"SIGHTLINE_STORAGE": "gs://bucket", "SIGHTLINE_DATASET_REPO": "https://git.example.com/d.git"}
        },
        "secrets/sightline-database": {"data": {"url": base64.b64encode(b"sqlite://").decode()}},
        "persistentvolumeclaims/sightline-volume": {
            "spec": {},
            "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "20Gi"}},
        },
    }
    with serve_cluster(Cluster(objects, [pod("Pending")])) as served:
        yield served


def seen(cluster: Cluster, folder: Path) -> dict[str, Line]:
    """What doctor says of the cluster, by name."""
    kubeconfig = str(write_kubeconfig(folder / "kubeconfig", cluster.url))
    options = argparse.Namespace(cluster=True, kubeconfig=kubeconfig, context=None, namespace=None, host="")
    lines = look({"cluster": lambda: in_cluster.check_cluster(options)})
    assert [line for line in lines if line.state != "ok" and not line.do] == []
    return {line.name: line for line in reversed(lines)}


def test_an_installation_in_a_cluster_is_looked_at(cluster, tmp_path):
    lines = seen(cluster, tmp_path)
    assert lines["ConfigMap"].state == lines["Secrets"].state == "ok"
    assert lines["claim"].found.startswith(
        "sightline-volume is bound, 20Gi, ReadWriteOnce; the pods of a run have to share a node"
    )
    assert (lines["helper pod"].state, lines["images"].state) == ("fail", "skip")
    assert "ImagePullBackOff" in lines["helper pod"].found and "may not make pods" in lines["images"].found


CLUSTERS_FAULTS: dict[str, tuple[Callable[[Cluster], Any], str, str]] = {
    "no ConfigMap": (
        lambda it: it.objects.pop("configmaps/sightline-config"),
        "ConfigMap",
        "there is no sightline-config",
    ),
    "no storage": (
        lambda it: it.objects["configmaps/sightline-config"]["data"].pop("SIGHTLINE_STORAGE"),
        "ConfigMap",
        "has no SIGHTLINE_STORAGE",
    ),
    "no secret": (
        lambda it: it.objects.pop("secrets/sightline-database"),
        "Secrets",
        "there is no Secret sightline-database",
    ),
    "no url": (lambda it: it.objects["secrets/sightline-database"].update(data={}), "Secrets", "there is no key url"),
    "no claim": (lambda it: it.objects.pop("persistentvolumeclaims/sightline-volume"), "claim", "there is no claim"),
    "an unbound claim": (
        lambda it: it.objects["persistentvolumeclaims/sightline-volume"].update(status={"phase": "Pending"}),
        "claim",
        "sightline-volume is Pending",
    ),
    "no helper": (lambda it: it.pods.clear(), "helper pod", "There is no helper pod"),
    "no rights": (lambda it: setattr(it, "refuses", ("secrets/",)), "Secrets", "does not allow it"),
}


@pytest.mark.parametrize("fault", CLUSTERS_FAULTS)
def test_what_is_broken_in_a_cluster_is_told(cluster, tmp_path, fault):
    break_it, name, told = CLUSTERS_FAULTS[fault]
    break_it(cluster)
    lines = seen(cluster, tmp_path)
    assert lines[name].state == "fail" and told in lines[name].found


def test_no_cluster_and_no_server_are_lines(tmp_path):
    with closed_port() as port:
        status, lines, _ = doctor(
            tmp_path / "w", "--cluster", "--kubeconfig", str(tmp_path / "none"), "--host", f"http://127.0.0.1:{port}"
        )
    assert status == 1 and {name for name, line in lines.items() if line.state == "fail"} == {"kubeflow", "cluster"}


@pytest.mark.parametrize("named", ["kubeflow", ""])
def test_a_cluster_out_of_reach_is_one_failure(tmp_path, named):
    """What is reached through it is listed, and not tried."""
    with closed_port() as port:
        kubeconfig = str(write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}"))
        host = ("--host", f"http://127.0.0.1:{port}") if named else ()
        status, lines, _ = doctor(tmp_path / "w", "--cluster", "--kubeconfig", kubeconfig, *host)
    assert status == 1
    assert {name for name, line in lines.items() if line.state == "fail"} == {"cluster", *filter(None, [named])}
    assert "cannot be reached" in lines["cluster"].found and "kubeconfig" in lines["cluster"].do
    unchecked = "ConfigMap, Secrets, claim, nodes, helper pod, images"
    assert lines["the rest"].found.endswith(unchecked if named else f": kubeflow, {unchecked}")
