"""`local --smoke` on photographs as a user runs it: what it leaves, what nobody takes for the real thing, and how it goes again."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sightline.settings import Settings
from tests.functional.test_local import SMALL, states
from tests.functional.test_prune import grow_old
from tests.installed import run
from tests.workspace import run_pipeline

SMOKE, TAG = "desk--smoke", "desk--smoke_train_v0.1.0"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A laptop that has published the photographs of a desk, and run a smoke test of them."""
    workspace = tmp_path_factory.mktemp("smoke") / "workspace"
    photographs = Path(__file__).parents[1] / "data" / "desk"
    here = ("--workspace", str(workspace))
    for words in (
        ("publish", str(photographs), "--category", "desk", "--version", "v0.1.0"),
        ("local", "--category", "desk", "--smoke", *SMALL),
    ):
        done = run_pipeline(*here, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "smoke test passed: every step works." in done.stdout
    return workspace


@pytest.fixture
def command(workspace: Path) -> Callable[..., str]:
    def command(*words: str) -> str:
        done = run_pipeline("--workspace", str(workspace), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return command


def settings_of(workspace: Path) -> Settings:
    return Settings(
        storage=(workspace / "storage").as_uri(),
        database_url=f"sqlite:///{workspace / 'sightline.db'}",  # type: ignore[arg-type]  # pydantic makes it a secret
        dataset_repo=str(workspace / "dataset.git"),
        volume=workspace / "volume",
    )


@pytest.mark.slow
def test_it_runs_every_step_on_twenty_images_for_one_epoch_under_a_name_of_its_own(workspace):
    result = json.loads((workspace / "last_smoke.json").read_text())
    assert states(result) == dict.fromkeys(("snapshot", "record", "train", "evaluate", "test"), "done")
    assert (result["category"], result["dataset_version"], result["images_of"]) == (SMOKE, "v0.1.0", [20, 92])
    assert not (workspace / "last_run.json").exists()
    with closing(sqlite3.connect(workspace / "sightline.db")) as database:
        versions = database.execute("SELECT tag, image_count FROM versions ORDER BY id").fetchall()
    assert versions == [("desk_ann_v0.1.0", 92), (TAG, 20)]
    (history,) = (workspace / "storage" / "results" / SMOKE / "v0.1.0").glob("*/train/logs/history.jsonl")
    epochs = {json.loads(line).get("epoch") for line in history.read_text().splitlines()} - {None}
    assert epochs == {1}
    folder = workspace / "reports" / SMOKE
    assert {path.name for path in folder.glob("*.html")} == {
        f"{step}.html" for step in ("record", "train", "evaluate", "test")
    }
    assert "smoke test of 20 images" in (folder / "record.html").read_text()


@pytest.mark.slow
def test_the_real_category_has_nothing_of_it(workspace, command):
    def shown(*words: str) -> set[str]:
        return {one["tag"] for one in json.loads(command("versions", "--json", *words))}

    assert shown() == shown("--category", "desk") == {"desk_ann_v0.1.0"}
    assert shown("--all") == {"desk_ann_v0.1.0", TAG}
    tags = run("git", "-C", str(workspace / "dataset.git"), "tag").split()
    assert sorted(tags) == sorted(["desk_ann_v0.1.0", TAG])
    assert [path.name for path in (workspace / "storage" / "results").iterdir()] == [SMOKE]
    assert not (workspace / "reports" / "desk").exists()


@pytest.mark.slow
def test_prune_may_remove_it_once_it_is_old_and_leaves_every_version(workspace, command, tmp_path):
    old = tmp_path / "workspace"
    shutil.copytree(workspace, old, symlinks=True)
    grow_old(settings_of(old), 40)
    here = ("--workspace", str(old), "prune", "--older-than", "30")
    kept = json.loads(run_pipeline(*here, "--json").stdout)
    shutil.rmtree(old / "kfp")  # what `local` would reuse
    done = run_pipeline(*here, "--yes")
    assert done.returncode == 0, done.stderr
    assert "models" not in json.dumps(kept)
    assert not list((old / "storage" / "models").glob("*"))
    assert not list((old / "storage" / "results").glob("**/*.html"))
    verified = run_pipeline("--workspace", str(old), "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
