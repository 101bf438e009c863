"""An image holds what its lock pins and nothing else: its steps' work is done here without all that is not in the lock."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.settings import read_settings
from tests.catalogued import make_first, write_code
from tests.installed import install
from tests.workspace import REPOSITORY, run_pipeline

ONLY_LOCKED = f"""
import importlib.metadata, os, re, sys

def normalised(name):
    return re.sub("[-_.]+", "-", name).lower()

lock = open(r"{REPOSITORY}/docker/requirements/" + os.environ["TEST_LOCK"] + ".txt").read()
pinned = {{normalised(name) for name in re.findall(r"^([\\w.-]+)", lock, re.MULTILINE)}} | {{"pip", "setuptools"}}
if os.environ["TEST_LOCK"] == "train":
    pinned.add("torch")
owners = importlib.metadata.packages_distributions()

class OnlyLocked:
    def find_spec(self, name, path=None, target=None):
        holders = owners.get(name.partition(".")[0], ())
        if holders and not any(normalised(holder) in pinned for holder in holders):
            raise ModuleNotFoundError(f"No module named {{name!r}} in this image", name=name)

sys.meta_path.insert(0, OnlyLocked())
"""
"""A sitecustomize.py, which every process of the test reads before anything else."""

PUBLISH_AND_RECORD = """
import sys
from pathlib import Path
from sightline.publish.annotations import publish_annotations
from sightline.settings import read_settings
from sightline.steps.record.record import record_dataset
published = publish_annotations(read_settings(), Path(sys.argv[1]), "desk", "v0.1.0").publication.row.commit
record_dataset(sys.argv[2], "desk", "v0.1.0", str(published))
"""
FETCH = """
from sightline.services.versioning.datasets import find_dataset, pull_dataset
from sightline.settings import read_settings
import sightline.steps.train.fit, sightline.steps.evaluate.compare, sightline.steps.testing.run
import sightline.tasks.detection.fit, sightline.tasks.detection.predict, sightline.tasks.classification.fit
from sightline.tasks.detection.fit import register
register()
folder = pull_dataset(read_settings(), find_dataset(read_settings(), "desk", ""))
print(sum(path.is_file() for path in (folder / "images").rglob("*")))
"""


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., str]:
    """Runs a script with what an image has: the lock's name, the script, its arguments. Returns what it prints."""
    (tmp_path / "only" / "sitecustomize.py").parent.mkdir()
    (tmp_path / "only" / "sitecustomize.py").write_text(ONLY_LOCKED)

    def run_as(lock: str, script: str, *arguments: str) -> str:
        path = f"{tmp_path / 'only'}:{REPOSITORY / 'shared_volume'}"
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env=os.environ | {"PYTHONPATH": path, "TEST_LOCK": lock},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_as


@pytest.mark.slow
def test_versions_are_written_and_read_in_a_bucket_with_the_packages_of_each_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str, image: Callable[..., str]
) -> None:
    installed = install(tmp_path, monkeypatch, storage=f"gs://{bucket}/team")
    make_first(tmp_path / "labelme")
    images = len([path for path in (tmp_path / "labelme").rglob("*") if path.suffix in (".png", ".jpg")])
    image("data", PUBLISH_AND_RECORD, str(tmp_path / "labelme"), write_code(tmp_path, 0))
    assert installed.tags() == ["desk_ann_v0.1.0", "desk_train_v0.1.0"]
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(tmp_path / "elsewhere"))
    assert int(image("train", FETCH)) == images
    read_settings.cache_clear()


def test_what_an_image_lacks_is_not_found(image: Callable[..., str]) -> None:
    for lock, module in (("train", "dvc"), ("data", "torch"), ("data", "gcsfs")):
        with pytest.raises(AssertionError, match=f"No module named '{module}' in this image"):
            image(lock, f"import {module}")


# What `make setup-submit` installs


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two annotation versions of plates, made with everything installed."""
    folder = tmp_path_factory.mktemp("published")
    plates, workspace = str(folder / "plates"), folder / "workspace"
    publish = ("publish", plates, "--category", "plates", "--workspace", str(workspace), "--version")
    for words in (("sample", plates, "--images", "3"), (*publish, "v0.1.0"), (*publish, "v0.2.0")):
        done = run_pipeline(*words)
        assert done.returncode == 0, done.stderr
    return workspace


@pytest.fixture
def with_submit(tmp_path: Path, published: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command of pipeline.py on those versions with what `make setup-submit` installs."""
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "sitecustomize.py").write_text(ONLY_LOCKED)
    environment = {"PYTHONPATH": str(tmp_path / "only"), "TEST_LOCK": "submit"}
    return lambda *words: run_pipeline("--workspace", str(published), *words, environment=environment)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("versions",), "plates_ann_v0.1.0"),
        (("versions", "--json"), '"v0.2.0"'),
        (("verify", "--full"), "plates_ann_v0.2.0"),
        (("runs",), "no runs yet"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_make_setup_submit_is_enough_to_look_at_versions_and_runs(with_submit, words, told):
    done = with_submit(*words)
    assert (done.returncode, told in done.stdout) == (0, True), done.stdout + done.stderr
    assert "not installed" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "lacks"),
    [
        (("publish", ".", "--category", "plates", "--version", "v0.3.0"), "numpy"),
        (("diff", "plates_ann_v0.1.0", "plates_ann_v0.2.0"), "numpy"),
        (("export", "plates_ann_v0.1.0", "--format", "coco", "--output", "nowhere"), "numpy"),
        (("sample", "nowhere"), "cv2"),
        (("local", "--category", "plates"), "numpy"),
        (("local", "--category", "plates", "--steps", "train", "--dataset-version", "v0.1.0"), "numpy"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_make_setup_submit_is_not_enough_for_says_so_in_a_sentence(with_submit, published, words, lacks):
    done = with_submit(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {words[0]} needs {lacks}, which {sys.executable} does not have. ")
    assert not (published / "logs").exists(), "no step was started"
