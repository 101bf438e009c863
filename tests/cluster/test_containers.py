"""`pipeline.py local --runner docker`: the whole pipeline in the real images, against MariaDB and the storage emulator."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy

from sightline.models.bundle import read_bundle
from sightline.services.storage.access import open_storage
from sightline.steps.record.record import record_dataset
from tests.cluster.conftest import TAG
from tests.live_code import LIVE, append, file_of
from tests.mariadb import PASSWORD, new_database
from tests.services import EMULATOR_SETTINGS, make_bucket
from tests.workspace import REPOSITORY, copy_checkout

pytestmark = pytest.mark.slow

STEPS = ("snapshot", "record", "train", "evaluate", "test")
IMAGE_USER = 1001
SOMEBODY = 4711
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Laptop:
    """A copy of the checkout, whose helper code nobody else edits, a workspace, and the settings of one installation."""

    folder: Path
    settings: dict[str, str]

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
        return subprocess.Popen(
            [sys.executable, "pipeline.py", "--workspace", str(self.workspace), *arguments],
            cwd=self.folder / "checkout",
            env=clean | self.settings | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background job ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **settings)
        output, errors = process.communicate()
        return process.returncode, output, errors

    def local(self, *arguments: str) -> dict:
        status, output, errors = self.run(*LOCAL, *arguments)
        assert status == 0, output + errors
        return json.loads((self.workspace / "last_run.json").read_text())

    def rows(self, statement: str, **values: object) -> list[tuple]:
        engine = sqlalchemy.create_engine(self.settings["SIGHTLINE_DATABASE_URL"])
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(sqlalchemy.text(statement), values)]
        engine.dispose()
        return found

    def containers(self, image: str = "") -> list[str]:
        """Ids of the workspace's containers, whatever their state."""
        shown = ["docker", "ps", "--all", "--format", "{{.ID}} {{.Image}}"]
        command = [*shown, "--filter", f"label=sightline.workspace={self.workspace}"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return [line.split()[0] for line in listed if image in line]


LOCAL = ("local", "--category", "plates", "--runner", "docker", "--tag", TAG)

PROBE = """
def _probe():
    import os, pathlib
    status = pathlib.Path('/proc/self/status').read_text()
    facts = dict(line.split(':', 1) for line in status.splitlines() if ':' in line)
    places = ('/', '/opt', '/etc', '/var/tmp', '/shared_volume/code', '/tmp', '/shared_volume')
    writable = [place for place in places if os.access(place, os.W_OK)]
    print('PROBE', os.getuid(), facts['CapEff'].strip(), facts['NoNewPrivs'].strip(), writable,
          'SIGHTLINE_PARENT' in os.environ, flush=True)
_probe()
"""

PREPARATION = (
    ("sample", "plates", "--images", "20", "--labels", "board"),
    ("publish", "plates", "--category", "plates", "--version", "v0.1.0"),
)


@pytest.fixture(scope="module")
def laptop(images: dict[str, str], gcs_emulator: str, mariadb_server: str, tmp_path_factory) -> Iterator[Laptop]:
    with new_database(mariadb_server) as url:
        settings = {"SIGHTLINE_STORAGE": f"gs://{make_bucket(gcs_emulator)}/team", "SIGHTLINE_DATABASE_URL": url}
        made = Laptop(tmp_path_factory.mktemp("laptop"), settings | EMULATOR_SETTINGS)
        copy_checkout(made.folder / "checkout")
        for arguments in PREPARATION:
            status, output, errors = made.run(*arguments)
            assert status == 0, output + errors
        yield made


@pytest.fixture(scope="module")
def first(laptop: Laptop) -> dict:
    return laptop.local("--epochs", "1")


def states(run: dict) -> dict[str, str]:
    return {step: facts["state"] for step, facts in run["steps"].items()}


def until(happens: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < end, f"no {what} after {PATIENCE_SECONDS} s"
        time.sleep(0.2)


def test_every_step_runs_in_its_image_and_leaves_its_results(laptop: Laptop, first: dict, tmp_path: Path) -> None:
    assert states(first) == dict.fromkeys(STEPS, "done")
    run = first["run"]
    # MariaDB: the versions, the steps as they ended, the scores of the selected model.
    versions = laptop.rows("SELECT kind, version, status FROM versions ORDER BY kind")
    assert versions == [("annotation", "v0.1.0", "published"), ("dataset", "v0.1.0", "published")]
    steps = dict(laptop.rows("SELECT step, state FROM steps WHERE run_id = :run", run=run))
    assert steps.items() >= dict.fromkeys(("record", "train", "evaluate", "test"), "done").items()
    scores = dict(
        laptop.rows(
            "SELECT name, value FROM metric_values JOIN evaluations ON evaluations.id = evaluation_id "
            "WHERE class_name = '' AND selected AND run_id = :run",
            run=run,
        )
    )
    assert first["metrics"] and {name: scores[name] for name in first["metrics"]} == pytest.approx(first["metrics"])
    # The bucket: the code, DVC's objects, the bundle, which is whole, and the drawn images.
    storage = open_storage(laptop.settings["SIGHTLINE_STORAGE"])
    keys = {item.key for item in storage.list()}
    assert f"code/{first['code_digest']}.tar.gz" in keys
    assert any(key.startswith("dvc/datasets/") for key in keys)
    results = f"results/plates/v0.1.0/{run}"
    assert sum(key.startswith(f"{results}/test/images/") for key in keys) == 2
    assert f"{results}/evaluate/selected.json" in keys
    storage.download_folder(f"models/{first['model']['sha256']}", tmp_path / "selected")
    assert read_bundle(tmp_path / "selected", first["model"]["sha256"])
    # Git: both tags.
    repository = laptop.workspace / "dataset.git"
    tags = subprocess.run(["git", "-C", str(repository), "tag"], capture_output=True, text=True, check=True).stdout
    assert tags.split() == ["plates_ann_v0.1.0", "plates_train_v0.1.0"]
    for step, path in first["reports"].items():
        assert len(Path(path).read_text()) > 2000, step
    assert laptop.containers() == []


def test_what_steps_write_on_the_volume_belongs_to_the_images_user(laptop: Laptop, first: dict) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's containers run as the images' user")
    volume = laptop.workspace / "volume"
    written = [path for name in ("releases", "datasets", "models", "runs") for path in (volume / name).rglob("*")]
    assert len(written) > 20
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in written} == {(IMAGE_USER, IMAGE_USER)}


def test_no_output_holds_the_password(laptop: Laptop, first: dict) -> None:
    files = [path for path in laptop.workspace.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.suffix == ".log" for path in files)
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []


def test_a_second_run_reuses_what_the_first_made(laptop: Laptop, first: dict) -> None:
    second = laptop.local("--epochs", "1")
    assert states(second) == {"snapshot": "done"} | dict.fromkeys(STEPS[1:], "reused")
    assert {name: second[name] for name in ("model", "metrics", "code_digest")} == {
        name: first[name] for name in ("model", "metrics", "code_digest")
    }


def test_a_container_can_do_no_more_than_on_a_cluster(laptop: Laptop, first: dict) -> None:
    """As the step itself sees it: its user, its rights, and where it can write."""
    code = laptop.folder / "checkout" / LIVE.relative_to(REPOSITORY)
    before = (code / file_of(record_dataset)).read_bytes()
    edited = append(code, record_dataset, PROBE)
    try:
        run = laptop.local("--steps", "record")
    finally:
        edited.write_bytes(before)
    log = (laptop.workspace / "logs" / f"{run['run']}.log").read_text()
    user = IMAGE_USER if os.geteuid() == 0 else os.geteuid()
    assert f"PROBE {user} 0000000000000000 1 ['/tmp', '/shared_volume'] False" in log


def test_a_step_that_fails_is_named_with_its_reason(laptop: Laptop, first: dict) -> None:
    status, _, errors = laptop.run(*LOCAL, "--set", "optim_wrapper.optimizer.type=Nothing")
    assert status == 1
    assert "the step train failed" in errors
    assert "Nothing" in errors
    assert laptop.containers() == []


def test_ctrl_c_stops_the_container(laptop: Laptop, first: dict) -> None:
    process = laptop.start(*LOCAL, "--epochs", "50")
    until(lambda: laptop.containers("sightline-train"), "container of train")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert laptop.containers() == []


def test_the_container_of_a_killed_run_is_removed_by_the_next(laptop: Laptop, first: dict) -> None:
    process = laptop.start(*LOCAL, "--epochs", "51")
    # Those of snapshot and record would soon end by themselves.
    until(lambda: laptop.containers("sightline-train"), "container of train")
    orphans = laptop.containers()
    process.kill()
    process.communicate()
    assert laptop.containers() == orphans
    laptop.local("--epochs", "1")
    assert not set(orphans) & set(laptop.containers())


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        pytest.param(("--tag", "never-built"), {}, "`make images`", id="no such image"),
        pytest.param(
            (), {"DOCKER_HOST": "unix://{elsewhere}/docker.sock"}, "No container engine answers", id="no engine"
        ),
        pytest.param(
            (),
            {"SIGHTLINE_DATABASE_URL": "sqlite:///{elsewhere}/x.db"},
            "chown -R 1001:1001 {elsewhere}",
            id="a folder that is not the workspace's",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root's containers run as somebody else"),
        ),
    ],
)
def test_what_is_missing_is_said(laptop: Laptop, tmp_path: Path, arguments, settings, message) -> None:
    given = {name: value.format(elsewhere=tmp_path) for name, value in settings.items()}
    status, _, errors = laptop.run(*LOCAL, *arguments, **given)
    assert status == 1
    assert message.format(elsewhere=tmp_path) in errors
    assert "Traceback" not in errors


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that others can enter; pytest keeps its own for the one who runs it."""
    with tempfile.TemporaryDirectory(prefix="sightline-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_results_of_somebody_who_is_not_root_stay_hers(images: dict[str, str], open_folder: Path) -> None:
    """Her containers run as she does, with no help of root."""
    socket = Path(os.environ["DOCKER_HOST"].removeprefix("unix://"))
    if os.geteuid() != 0 or not socket.is_socket():
        pytest.skip("needs root, to become somebody else who may use the container engine")
    hers = Laptop(open_folder, {})
    copy_checkout(hers.folder / "checkout")
    for path in (hers.folder, *hers.folder.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
    as_her = ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", f"--groups={socket.stat().st_gid}"]
    for arguments in (*PREPARATION, (*LOCAL, "--steps", "record")):
        done = subprocess.run(
            [*as_her, sys.executable, "pipeline.py", "--workspace", str(hers.workspace), *arguments],
            cwd=hers.folder / "checkout",
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(hers.folder),
                "USER": "her",
                "DOCKER_HOST": os.environ["DOCKER_HOST"],
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert {path.lstat().st_uid for path in hers.workspace.rglob("*")} == {SOMEBODY}
    assert (hers.workspace / "reports" / "plates" / "record.html").is_file()
