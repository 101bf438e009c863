"""The one door: newer and older code behind it, and what a caller of another age is told."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image

from sightline import entry
from tests.functional.test_local import Laptop
from tests.workspace import copy_checkout

STEPS = ("snapshot", "record", "train", "evaluate", "test")


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(copy_checkout(tmp_path / "checkout"), tmp_path / "workspace")


def rename_everything_behind_the_door(code: Path) -> None:
    """Every room gets another name, and the train step one more argument."""
    rooms = sorted(path.name for path in (code / "sightline").iterdir() if (path / "__init__.py").is_file())
    named = re.compile(rf"\bsightline\.({'|'.join(rooms)})\b")
    for file in code.rglob("*.py"):
        renamed = named.sub(r"sightline.new_\1", file.read_text())
        file.write_text(renamed.replace("{home}.tasks.", "{home}.new_tasks."))
    start = code / "sightline" / "steps" / "train" / "start.py"
    text = start.read_text()
    assert '    device: str = "",\n' in text
    start.write_text(text.replace('    device: str = "",\n', '    device: str = "",\n    warm_up: int = 0,\n', 1))
    for room in rooms:
        (code / "sightline" / room).rename(code / "sightline" / f"new_{room}")


@pytest.mark.slow
def test_a_pipeline_runs_with_code_in_which_everything_behind_the_door_was_renamed(laptop, tmp_path):
    for arguments in (
        ("sample", str(tmp_path / "plates"), "--images", "24", "--labels", "board"),
        ("publish", str(tmp_path / "plates"), "--category", "plates", "--version", "v0.1.0"),
    ):
        assert laptop.pipeline(*arguments).returncode == 0
    newer = copy_checkout(tmp_path / "newer") / "shared_volume"
    rename_everything_behind_the_door(newer)
    code = laptop.workspace / "volume" / "code"
    code.unlink()
    code.symlink_to(
        os.path.relpath(newer, code.parent)
    )  # as sync leaves it: the laptop's commands keep their hands off
    laptop.local()
    (release,) = (laptop.workspace / "volume" / "releases").glob("train-*")
    assert "warm_up" in (release / "sightline" / "new_steps" / "train" / "start.py").read_text()


ARTIFACTS = {
    "snapshot": (),
    "record": ("dataset", "data_report"),
    "train": ("model", "training_report"),
    "evaluate": ("selected_model", "scores", "confusion_matrix", "evaluation_report"),
    "test": ("predictions", "test_report"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("interface", "told"),
    [
        (entry.INTERFACE + 1, r"older than the pipeline. Bring it up to date: python pipeline\.py sync"),
        (entry.OLDEST - 1, r"older than the code. Compile it again: python pipeline\.py submit.*schedule --replace"),
    ],
)
def test_an_interface_that_is_not_served_is_told_with_what_to_type(step, interface, told):
    with pytest.raises(entry.InterfaceError, match=told):
        getattr(entry, step)(interface=interface, **dict.fromkeys(ARTIFACTS[step]))


def test_an_argument_that_the_code_does_not_have_means_that_the_code_is_older():
    with pytest.raises(entry.InterfaceError, match=r"gives warm_up, which the helper code.*python pipeline\.py sync"):
        entry.train(interface=entry.INTERFACE, model=None, training_report=None, warm_up=3)


@pytest.mark.parametrize("interface", [None, 1.5, "1.5", "one", "", True, float("nan"), float("inf"), [1]])
def test_an_interface_that_is_no_whole_number_is_told(interface):
    with pytest.raises(entry.InterfaceError, match=r"where a whole number must say.*python pipeline\.py submit"):
        entry.train(interface=interface, model=None, training_report=None)


def test_a_caller_that_says_no_interface_is_told():
    with pytest.raises(entry.InterfaceError, match=r"says None where a whole number must say"):
        entry.snapshot()


@pytest.mark.parametrize("interface", [1, "1", 1.0])
@pytest.mark.parametrize("step", STEPS)
def test_a_missing_argument_is_named_and_means_that_the_pipeline_is_older(step, interface):
    artifacts = dict.fromkeys(ARTIFACTS[step], "artifact")
    with pytest.raises(entry.InterfaceError, match=r"gives no \w.*older than the code.*python pipeline\.py submit"):
        getattr(entry, step)(interface=interface, **artifacts)


@pytest.mark.parametrize(("step", "artifact"), [(step, name) for step, names in ARTIFACTS.items() for name in names])
def test_a_missing_artifact_is_named(step, artifact):
    others = {name: "artifact" for name in ARTIFACTS[step] if name != artifact}
    with pytest.raises(entry.InterfaceError, match=rf"gives no .*\b{artifact}\b, which"):
        getattr(entry, step)(interface=1, **others)


@pytest.mark.parametrize(("umask", "file", "folder"), [(0, 0o660, 0o770), (0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_what_a_step_writes_is_not_everybodys(tmp_path, umask, file, folder):
    """KFP starts steps with umask 0; whoever chose one keeps it."""

    def write() -> None:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "file").write_text("x")

    before = os.umask(umask)
    try:
        entry._call(write, 1, {})
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("made/file", "made")]
    assert modes == [file, folder]


def test_migrate_takes_no_arguments(capsys):
    assert entry.main(["migrate", "extra"]) == 2
    assert "usage: python -m sightline.entry migrate" in capsys.readouterr().err


def test_code_from_before_there_was_a_door_is_told_so(laptop, tmp_path):
    (laptop.code / "sightline" / "entry.py").unlink()
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    given = ("--model", "file:///nowhere", "--images", str(tmp_path))
    done = laptop.pipeline("local", "--category", "plates", "--steps", "test", *given)
    assert done.returncode == 1
    assert (
        "The helper code is older than this pipeline. Bring it up to date: python pipeline.py sync"
        in done.stdout + done.stderr
    )
