"""What the README promises and no other test holds: the Makefile, setting up, each format, a run's output and leavings."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from laptop import annotate as annotate_command
from laptop import display, local, setup_environment
from laptop.cli import main
from laptop.compiling import pipeline_of
from laptop.scores import scores_table, shown_scores
from sightline.errors import SightlineError
from sightline.models.bundle import read_bundle
from sightline.processes.progress import Progress
from sightline.processes.threads import set_thread_environment
from sightline.publish.annotations import publish_annotations
from sightline.services.versioning.git import GitError, run_git
from sightline.settings import read_settings
from sightline.steps.record.record import record_dataset
from sightline.steps.snapshot.start import start_run
from tests.functional.test_training import history, kill_in_mid_epoch, start, work_folder
from tests.installed import install, run
from tests.kfp_server import KfpServer, serve
from tests.kube_api import serve_pods, write_kubeconfig
from tests.make_labelme import annotate, box, files_in, make_labelme
from tests.unit.test_sources import coco_folder, cvat_folder, voc_folder, voc_object, yolo_folder
from tests.workspace import REPOSITORY, Installation, finished, run_pipeline

LAST_RUN = {
    *(
        "run",
        "task",
        "category",
        "annotation_version",
        "dataset_version",
        "findings",
        "finding_codes",
        "images_left_out",
        "warnings",
        "code_digest",
        "model",
    ),
    *("metrics", "reports", "steps"),
}


def write_program(path: Path, text: str) -> Path:
    """A shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# --- make ------------------------------------------------------------------------------------------------------------


def make(*arguments: str) -> str:
    # As from a shell: the make that runs the tests must not speak in.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=REPOSITORY, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_help_lists_every_command_that_the_readme_names():
    listed = re.findall(r"^  make (\S+)", make("help"), re.MULTILINE)
    readme = "\n".join((REPOSITORY / page).read_text() for page in ("README.md", "CONTRIBUTING.md"))
    named = re.findall(r"(?:^    |`|then )make ([a-z-]+)", readme, re.MULTILINE)
    assert {"setup", "demo", "test", "images", "lint"} <= set(named) <= set(listed)


def test_make_demo_draws_plates_publishes_them_and_runs_the_pipeline(tmp_path):
    from laptop.cli import _parser

    program = write_program(tmp_path / "python", f'shift; echo "$*" >> {tmp_path}/asked')
    make("demo", "PYTHON=true", f"RUN={program}", f"DEMO={tmp_path / 'plates'}")
    sample, publish, local_run = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    assert (sample[0], publish[0], local_run[0]) == ("sample", "publish", "local")
    drawn, published, ran = (_parser().parse_args(words) for words in (sample, publish, local_run))
    assert (drawn.folder, drawn.images) == (published.folder, 120)
    assert published.category == ran.category == "plates"


@pytest.mark.parametrize(
    ("target", "lock"), [("setup", "dev"), ("setup-submit", "submit"), ("annotate-setup", "annotate")]
)
def test_make_sets_up_with_the_python_that_is_named(tmp_path, target, lock):
    program = write_program(tmp_path / "python", 'echo "$*"')
    asked = make(target, f"PYTHON={program}").split()
    assert asked[:2] == ["laptop/setup_environment.py", lock]
    assert asked[3:] == [str(program)]


BROKEN = "exit 127"
"""As pyenv's names do, of a Python that is not chosen; or where venv is missing."""
WHOLE = 'case "$*" in *ensurepip*venv*) ;; *) echo "$(basename $0) $*" ;; esac'


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        ({"python3.11": WHOLE, "python3.12": WHOLE, "python3.13": WHOLE}, "python3.13"),
        ({"python3.11": WHOLE, "python3.12": WHOLE, "python3.13": BROKEN}, "python3.12"),
        ({"python3.11": WHOLE}, "python3.11"),
        ({"python3": WHOLE, "python3.11": BROKEN, "python3.14": WHOLE}, "python3"),
    ],
)
def test_make_sets_up_with_the_newest_python_that_serves(tmp_path, monkeypatch, found, taken):
    for name in ("bash", "sh", "make", "basename", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    for name, text in found.items():
        write_program(tmp_path / name, text)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYTHON", raising=False)
    assert make("setup-submit").splitlines() == [f"{taken} laptop/setup_environment.py submit .venv"]


@pytest.mark.parametrize("target", ["setup", "setup-submit", "annotate-setup", "demo"])
@pytest.mark.parametrize("fitting", ["python3.12", ""])
def test_a_python_that_does_not_run_is_named_with_those_that_fit(tmp_path, target, fitting):
    for name in ("bash", "sh", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    if fitting:
        write_program(tmp_path / fitting, WHOLE)
    make = [str(shutil.which("make")), target, "PYTHON=no-such-python"]
    done = subprocess.run(
        make, cwd=REPOSITORY, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    (said,) = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode != 0
    assert said.startswith("error: PYTHON=no-such-python does not run") and "Python 3.11 to 3.13 is needed" in said
    goal = "setup" if target == "demo" else target
    assert said.endswith(f"make {goal} PYTHON={fitting or '/path/to/python3'}")


# --- setting up ------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path, monkeypatch) -> Path:
    """What the programs of a new virtual environment were asked for, a line each; nothing is installed."""
    log = tmp_path / "asked"
    log.touch()

    def create(folder: Path, **_: Any) -> None:
        for name in ("python", "uv"):
            write_program(Path(folder) / "bin" / name, f'echo "$*" >> {log}; ! test -e {tmp_path}/no-$# || exit 1')

    monkeypatch.setattr(setup_environment.venv, "create", create)
    monkeypatch.setattr(setup_environment.platform, "system", lambda: "Linux")
    monkeypatch.setattr(setup_environment.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(setup_environment, "_has_gpu", lambda: False)
    monkeypatch.setattr(setup_environment, "_python_with_torch", lambda: "")
    return log


def test_setting_up_again_takes_a_moment(asked, tmp_path):
    assert setup_environment.main(["submit", str(tmp_path / "venv")]) == 0
    assert "submit.txt" in asked.read_text()
    asked.write_text("")
    assert setup_environment.main(["submit", str(tmp_path / "venv")]) == 0
    assert asked.read_text() == ""


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0)])
def test_another_python_is_refused_with_what_to_type(asked, tmp_path, monkeypatch, capsys, version):
    this = SimpleNamespace(version_info=version, stderr=sys.stderr, executable="/bin/python")
    monkeypatch.setattr(setup_environment, "sys", this)
    assert setup_environment.main(["dev", str(tmp_path / "venv")]) == 1
    said = capsys.readouterr().err
    assert "Python 3.11 to 3.13 is needed" in said and "make setup PYTHON=" in said
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_is_refused_with_what_to_install(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(setup_environment.importlib.util, "find_spec", lambda name: None)
    assert setup_environment.main(["dev", str(tmp_path / "venv")]) == 1
    assert "has no venv. Install it (Debian: apt install python3-venv)" in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


def test_an_environment_is_made_anew_for_a_python_that_is_asked_for_or_when_its_own_is_gone(asked, tmp_path):
    folder = tmp_path / "venv"

    def sets_up(*python: str) -> bool:
        asked.write_text("")
        assert setup_environment.main(["submit", str(folder), *python]) == 0
        return "submit.txt" in asked.read_text()

    assert [sets_up(), sets_up()] == [True, False]
    (folder / "lib" / "python3.10").mkdir(parents=True)  # the fake above makes no folder of a version
    assert [sets_up(), sets_up("/usr/bin/python3")] == [False, True]
    (folder / "lib" / "python{}.{}".format(*sys.version_info)).mkdir()
    assert [sets_up("/usr/bin/python3")] == [False]
    (folder / "bin" / "python").unlink()
    assert [sets_up(), sets_up()] == [True, False]


@pytest.mark.parametrize("gpu", [False, True])
def test_torch_is_the_cuda_build_where_there_is_a_gpu_and_the_cpu_build_elsewhere(asked, tmp_path, monkeypatch, gpu):
    monkeypatch.setattr(setup_environment, "_has_gpu", lambda: gpu)
    assert setup_environment.main(["dev", str(tmp_path / "venv")]) == 0
    said = asked.read_text()
    assert ("+cpu" in said, "cuda.txt" in said) == (not gpu, gpu)


def test_where_no_cpu_build_is_in_reach_the_large_one_is_installed_and_said(asked, tmp_path, capsys, monkeypatch):
    install = setup_environment._Installer.install

    def only_large(self: Any, *what: str, **more: Any) -> bool:
        return False if "+cpu" in what[0] else install(self, *what, **more)

    monkeypatch.setattr(setup_environment._Installer, "install", only_large)
    assert setup_environment.main(["dev", str(tmp_path / "venv")]) == 0
    assert "no CPU build of torch is in reach" in capsys.readouterr().out
    assert "cuda.txt" in asked.read_text()


THIS = sys.version_info[1]
OTHERS = [minor for minor in (13, 12, 11) if minor != THIS]


@pytest.mark.parametrize(
    ("wheels", "found", "taken"),
    [
        pytest.param(OTHERS, OTHERS, OTHERS[0], id="the newest that has one"),
        pytest.param(OTHERS[1:], OTHERS, OTHERS[1], id="not the newest"),
        pytest.param(OTHERS, OTHERS[1:], OTHERS[1], id="the newest is not there"),
        pytest.param([THIS, *OTHERS], OTHERS, None, id="this one has one too"),
        pytest.param(OTHERS, [], None, id="no other is there"),
        pytest.param([], OTHERS, None, id="no wheel at all"),
    ],
)
def test_the_newest_python_is_taken_that_a_folder_of_wheels_has_torch_for(tmp_path, monkeypatch, wheels, found, taken):
    folder, programs = tmp_path / "wheels", tmp_path / "bin"
    folder.mkdir()
    name = setup_environment._torch().replace("==", "-")
    for minor in wheels:
        (folder / f"{name}+cpu-cp3{minor}-cp3{minor}-manylinux_2_28_x86_64.whl").touch()
    (folder / f"torch-0.1+cpu-cp3{THIS}-cp3{THIS}-manylinux_2_28_x86_64.whl").touch()
    for minor in (11, 12, 13):
        write_program(programs / f"python3.{minor}", "exit 0" if minor in found else BROKEN)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)  # a machine may have one of its own
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(setup_environment, "_has_two_builds", lambda: True)
    gpu: list[bool] = [False]
    monkeypatch.setattr(setup_environment, "_has_gpu", lambda: gpu[0])
    assert setup_environment._python_with_torch() == (f"python3.{taken}" if taken else "")
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert setup_environment._python_with_torch() == ""
    monkeypatch.setenv("UV_FIND_LINKS", f"/nowhere,{folder}")
    assert setup_environment._python_with_torch() == (f"python3.{taken}" if taken else "")
    gpu[0] = True
    assert setup_environment._python_with_torch() == ""


def test_another_python_sets_up_in_the_place_of_the_newest_unless_one_is_asked_for(asked, tmp_path, monkeypatch, capfd):
    program = write_program(tmp_path / "python3.12", 'echo "$*" && exit 7')
    monkeypatch.setattr(setup_environment, "_python_with_torch", lambda: str(program))
    monkeypatch.setattr(os, "execvp", lambda _, words: sys.exit(subprocess.run(words, check=False).returncode))
    with pytest.raises(SystemExit, match="7"):
        setup_environment.main(["dev", str(tmp_path / "venv")])
    said = capfd.readouterr().out
    assert f"taking {program}" in said and f"setup_environment.py dev {tmp_path / 'venv'}\n" in said
    assert not (tmp_path / "venv").exists()
    assert setup_environment.main(["submit", str(tmp_path / "small")]) == 0
    assert setup_environment.main(["dev", str(tmp_path / "venv"), "python3"]) == 0


# --- publishing ------------------------------------------------------------------------------------------------------

LEFT, TOP, RIGHT, BOTTOM = 6, 4, 18, 20
FOLDERS: dict[str, Callable[[Path], Any]] = {
    "labelme": lambda folder: annotate(folder, "a.png", [box("plug", LEFT, TOP, RIGHT, BOTTOM)]),
    "coco": lambda folder: coco_folder(folder, {"bbox": [LEFT, TOP, 12, 16]}, categories=[{"id": 7, "name": "plug"}]),
    "voc": lambda folder: voc_folder(folder, voc_object(LEFT + 1, TOP + 1, RIGHT, BOTTOM)),
    "yolo": lambda folder: yolo_folder(folder, "0 0.25 0.375 0.25 0.5"),
    "cvat": lambda folder: cvat_folder(
        folder, f'<box label="plug" xtl="{LEFT}" ytl="{TOP}" xbr="{RIGHT}" ybr="{BOTTOM}" z_order="0"/>'
    ),
}
"""Format -> how to make a folder of one image of 48 x 32 pixels with one box on it."""


@pytest.mark.parametrize("form", FOLDERS)
def test_a_folder_of_each_format_is_published_and_exported_as_what_it_holds(installed, tmp_path, form, capsys):
    FOLDERS[form](tmp_path / "in")
    here = ["--workspace", str(tmp_path)]
    assert main(["publish", str(tmp_path / "in"), "--category", "desk", "--version", "v0.1.0", *here]) == 0
    assert "published desk_ann_v0.1.0: 1 image, 1 object," in capsys.readouterr().out
    out = tmp_path / "out"
    assert main(["export", "desk_ann_v0.1.0", "--format", "coco", "--output", str(out), *here]) == 0
    coco = json.loads((out / "annotations" / "instances_all.json").read_text())
    assert [one["name"] for one in coco["categories"]] == ["plug"]
    assert [one["bbox"] for one in coco["annotations"]] == [[LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP]]


def test_photographs_of_every_kind_are_published(installed, tmp_path):
    suffixes = ("bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp")
    folder = make_labelme(tmp_path / "desk", [f"{suffix}.{suffix}" for suffix in suffixes])
    published = publish_annotations(installed.settings, folder, "desk", "v0.1.0")
    assert published.publication.row.image_count == len(suffixes)
    assert published.findings == ()


def test_annotate_opens_a_copy_that_is_published_as_the_next_version(installed, tmp_path, monkeypatch):
    drawn = make_labelme(tmp_path / "desk")
    publish_annotations(installed.settings, drawn, "desk", "v0.1.0")
    monkeypatch.setattr(annotate_command, "ENVIRONMENT", tmp_path / "environment")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    renaming = 'text=$(sed s/plug/socket/ "$1/a.json") && echo "$text" > "$1/a.json"'
    write_program(tmp_path / "environment" / "bin" / "labelme", renaming)
    folder, here = tmp_path / "mine", ["--workspace", str(tmp_path)]
    assert main(["annotate", "desk_ann_v0.1.0", "--folder", str(folder), *here]) == 0
    changed = [name for name, content in files_in(drawn).items() if (folder / name).read_bytes() != content]
    assert changed == ["a.json"]
    assert {path.stat().st_nlink for path in folder.rglob("*.*") if path.is_file()} == {1}, "links into the cache"
    assert main(["publish", str(folder), "--category", "desk", "--version", "v0.2.0", *here]) == 0
    assert main(["verify", "--full", *here]) == 0
    labels = {row["version_id"]: row["labels"] for row in installed.rows("images")["images"] if row["name"] == "a.png"}
    assert list(labels.values()) == [{"plug": 1}, {"socket": 1}]


def test_commits_have_the_author_of_the_settings(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_GIT_USER_NAME", "Ada")
    monkeypatch.setenv("SIGHTLINE_GIT_USER_EMAIL", "ada@example.com")
    read_settings.cache_clear()
    publish_annotations(read_settings(), make_labelme(tmp_path / "desk", ["a.png"]), "desk", "v0.1.0")
    author = run("git", "-C", installed.settings.dataset_repo, "log", "-1", "--format=%an <%ae>", "desk_ann_v0.1.0")
    assert author.strip() == "Ada <ada@example.com>"


# --- a run's output and what it leaves -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """`local --steps record`: its workspace, what it printed, and last_run.json."""

    workspace: Path
    said: str
    told: dict[str, Any]


@pytest.fixture(scope="module")
def record_run(tmp_path_factory) -> Run:
    """A run on 20 images, one of which has a shape that cannot be used."""
    folder = tmp_path_factory.mktemp("promised")
    drawn = make_labelme(folder / "desk", [f"{number}.png" for number in range(20)])
    annotate(drawn, "0.png", [box(), box("dot", 5, 5, 5, 5)])
    with pytest.MonkeyPatch.context() as environment:
        settings = install(folder / "workspace", environment).settings
        publish_annotations(settings, drawn, "desk", "v0.1.0")
    read_settings.cache_clear()
    done = run_pipeline("--workspace", str(folder / "workspace"), "local", "--category", "desk", "--steps", "record")
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(folder / "workspace", done.stdout, json.loads((folder / "workspace" / "last_run.json").read_text()))


def test_a_run_prints_a_line_per_step_and_where_everything_is(record_run):
    lines = record_run.said.splitlines()
    log = record_run.workspace / "logs" / f"{record_run.told['run']}.log"
    assert lines[0] == f"Sightline run {record_run.told['run']}: desk, log in {log}"
    assert [line.split()[:2] for line in lines[1:3]] == [["snapshot", "done"], ["record", "done"]]
    assert "1 finding in the annotations (1 drop): 1 zero_area; each is in the record report" in lines
    assert record_run.told["finding_codes"] == {"zero_area": 1} and record_run.told["images_left_out"] == 0
    assert f"record report:    {record_run.workspace / 'reports' / 'desk' / 'record.html'}" in lines
    assert lines[-1] == f"all of this as JSON: {record_run.workspace / 'last_run.json'}"
    assert log.is_file()


def test_last_run_tells_what_a_run_used_and_made(record_run):
    told = record_run.told
    assert told.keys() == LAST_RUN
    assert (told["category"], told["annotation_version"], told["dataset_version"]) == ("desk", "v0.1.0", "v0.1.0")
    assert told["findings"] == {"drop": 1}
    assert {step: facts["state"] for step, facts in told["steps"].items()} == {"snapshot": "done", "record": "done"}
    assert all(facts["seconds"] > 0 for facts in told["steps"].values())
    assert (told["model"], told["metrics"]) == ({"uri": None, "sha256": None}, {})
    assert Path(told["reports"]["record"]).read_text().lstrip().startswith("<!")


def test_a_workspace_holds_what_the_readme_lists(record_run):
    storage = record_run.workspace / "storage"
    left = {
        path.name for path in (storage / "results" / "desk" / "v0.1.0" / record_run.told["run"] / "record").iterdir()
    }
    assert left == {"report.html", "statistics.json"}
    assert (storage / "code" / f"{record_run.told['code_digest']}.tar.gz").is_file()
    assert {path.name for path in (storage / "dvc").iterdir()} == {"annotations", "datasets"}
    listed = {"storage", "sightline.db", "dataset.git", "volume", "kfp", "logs", "reports", "last_run.json"}
    assert {path.name for path in record_run.workspace.iterdir()} >= listed
    tags = run("git", "-C", str(record_run.workspace / "dataset.git"), "tag").split()
    assert {"desk_ann_v0.1.0", "desk_train_v0.1.0"} <= set(tags)


def test_a_run_takes_the_newest_annotation_version_unless_another_is_named(installed, tmp_path):
    for version in ("v0.9.0", "v0.10.0"):
        publish_annotations(installed.settings, make_labelme(tmp_path / version, [f"{version}.png"]), "desk", version)
    (installed.settings.volume / "code").symlink_to(REPOSITORY / "shared_volume")

    def chosen(version: str) -> tuple[str, str]:
        frozen = start_run("desk", version)
        return frozen.annotation_version, frozen.annotation_commit

    commits = {row["version"]: row["commit"] for row in installed.rows("versions")["versions"]}
    assert chosen("") == ("v0.10.0", commits["v0.10.0"])
    assert chosen("v0.9.0") == ("v0.9.0", commits["v0.9.0"])


def test_a_run_ends_with_its_scores_its_model_and_its_reports(tmp_path):
    from rich.console import Console

    output = io.StringIO()
    result = {
        "category": "plates",
        "dataset_version": "v0.1.0",
        "metrics": {"bbox_mAP_50": 0.7123, "segm_mAP": 0.5, "f1_small": 0.25},
        "model": {"uri": "file:///model"},
        "warnings": ["No object of r_board is in val"],
        "findings": {"fix": 3, "drop": 4},
        "finding_codes": dict.fromkeys(["zero_area", "bad_mask", "a", "b", "c", "d"], 1) | {"bad_mask": 2},
        "images_left_out": 2,
        "reports": {step: f"/reports/{step}.html" for step in ("record", "train", "evaluate", "test")},
    }
    local._print_result(Console(file=output, width=200), tmp_path, result)
    said = output.getvalue()
    assert re.search(r"bbox_mAP_50\W+0\.712\b", said) and re.search(r"segm_mAP\W+0\.500\b", said)
    assert re.search(r"f1_small\W+0\.250\b", said), "of a metric that the recipe names"
    for line in (
        "model: file:///model",
        "warning: No object of r_board is in val",
        "7 findings in the annotations (3 fix, 4 drop): 1 zero_area, 2 bad_mask, 1 a, 1 b, 1 c, …; each is in the record report",
        "images left out of the dataset: 2",
        "test report:      /reports/test.html",
    ):
        assert line in said.splitlines()


@pytest.mark.parametrize(
    ("values", "task", "shown"),
    [
        ({"f1": 0.5, "bbox_AR_1": 0.1, "segm_mAP": None, "bbox_mAP": 0.7}, "detection", ["bbox_mAP", "f1"]),
        ({"f1": 0.5, "f1_small": None, "bbox_mAP": 0.7}, "", ["bbox_mAP", "f1"]),
        ({"half": 0.4, "macro_F1": 0.3, "accuracy": 0.8}, "classification", ["accuracy", "macro_F1", "half"]),
        ({"half": 0.4}, "gone", ["half"]),
    ],
)
def test_scores_of_own_metrics_are_in_the_table_below_the_tasks(values, task, shown):
    names = shown_scores(values, task)
    assert names == shown
    assert [str(cell) for cell in scores_table("", values, names).columns[0].cells] == shown


def test_training_tells_its_loss_and_the_time_left(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_PROGRESS", str(tmp_path / "progress"))
    Progress(40).report(10, loss=0.71234, epoch=2, epochs=4, seconds_left=83.0)
    told = json.loads((tmp_path / "progress").read_text())
    assert (told["done"], told["total"]) == (10, 40)
    assert display.note_of(told).split(", ") == [" 25%", "epoch 2/4", "loss 0.712", "1:23 left"]


def test_a_thread_count_that_is_set_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    set_thread_environment()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"] != "77") == ("77", True)


# --- training --------------------------------------------------------------------------------------------------------

TINY = {
    "train_pipeline.2.scale": [96, 96],
    "train_pipeline.3.crop_size": [96, 96],
    "test_pipeline.1.scale": [96, 96],
    "train_batch_size": 2,
    "early_stopping.patience": 1,
    "early_stopping.min_delta": 10.0,
}
"""Ten quick iterations: nothing improves so much, so that two of the four epochs are trained."""
EPOCHS = 4


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Installation:
    """A recorded dataset of 16 images."""
    folder = tmp_path_factory.mktemp("trained")
    drawn = make_labelme(folder / "drawn", [f"{number}.png" for number in range(16)])
    with pytest.MonkeyPatch.context() as environment:
        settings = install(folder / "here", environment).settings
        commit = publish_annotations(settings, drawn, "plates", "v0.1.0").publication.row.commit
        record_dataset("/nowhere/record-0", "plates", "v0.1.0", str(commit), {"seed": 1})
    read_settings.cache_clear()
    return Installation(folder / "here", folder / "here" / "volume")


@pytest.fixture(scope="module")
def trained(installation) -> tuple[Path, dict[str, Any]]:
    """Work folder and model reference of a training that nothing disturbs."""
    here = installation.with_fresh_volume("unbroken")
    reference = json.loads(finished(start(here, TINY, EPOCHS)).splitlines()[-1])
    return work_folder(here), reference


def test_training_learns(trained):
    losses = [line["loss"] for line in history(trained[0]) if line["kind"] == "train"]
    assert losses[-1] < losses[0] / 1.5


def test_training_stops_after_as_many_validations_without_improvement_as_asked_for(trained):
    assert [line["epoch"] for line in history(trained[0]) if line["kind"] == "val"] == [1, 2]


def test_training_leaves_its_best_and_its_last_model_as_bundles(installation, trained):
    reference = trained[1]
    storage = installation.folder / "storage"
    results = storage / "results" / "plates" / "v0.1.0" / "unbroken" / "train"
    for name, sha256 in (("best", reference["sha256"]), ("last", reference["last_sha256"])):
        assert json.loads((results / f"{name}.json").read_text())["sha256"] == sha256
        bundle = read_bundle(storage / "models" / sha256, sha256)
        assert bundle.classes == ("plug", "switch")
        assert bundle.sample_image is not None and bundle.sample_predictions is not None
    assert (results / "report.html").is_file() and (results / "logs" / "history.jsonl").is_file()


def test_a_finished_training_keeps_its_newest_checkpoint_and_is_not_done_twice(installation, trained):
    folder, reference = trained
    before = history(folder)
    newest = f"checkpoints/iter_{before[-1]['iter']:08d}.pth"
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*.pth")}
    assert kept == {"best.pth", newest}
    assert not (folder / "bundles").exists()
    output = finished(start(replace(installation, volume=installation.folder / "unbroken"), TINY, EPOCHS))
    assert f"resumed at iteration {before[-1]['iter']}" in output
    assert json.loads(output.splitlines()[-1]) == reference
    assert history(folder) == before


def test_a_training_that_kill_9_stopped_goes_on_where_it_was(installation, trained):
    here, always = installation.with_fresh_volume("killed"), TINY | {"checkpoint_seconds": 0}
    kill_in_mid_epoch(start(here, always, EPOCHS), here, 3)
    output = finished(start(here, always, EPOCHS))
    assert int(output.partition("resumed at iteration ")[2].split()[0]) >= 2
    assert history(work_folder(here)) == history(trained[0])


# --- models ----------------------------------------------------------------------------------------------------------


def test_evaluate_selects_the_candidate_that_is_best_by_the_metric_that_is_asked_for():
    from sightline.steps.evaluate.compare import Scored, _select
    from sightline.tasks.task import Scores

    scored = [
        Scored(SimpleNamespace(name=name), [], Scores({"bbox_mAP": boxes, "segm_mAP": masks}, {}))  # type: ignore[arg-type]
        for name, boxes, masks in (("boxes", 0.6, float("nan")), ("masks", 0.5, 0.4))
    ]
    assert _select(scored, "bbox_mAP").candidate.name == "boxes"
    assert _select(scored, "segm_mAP").candidate.name == "masks"
    with pytest.raises(SightlineError, match="Did you mean 'segm_mAP'"):
        _select(scored, "segm_map")


@pytest.mark.parametrize(("gpu", "chosen"), [(False, "cpu"), (True, "cuda")])
def test_a_gpu_is_used_where_there_is_one_unless_a_device_is_named(monkeypatch, gpu, chosen):
    import torch

    from sightline.processes.devices import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose_device("").type == chosen
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(SightlineError, match="There is no device 'gpu'. Did you mean 'cuda'"):
        choose_device("gpu")


# --- commands --------------------------------------------------------------------------------------------------------


def test_every_option_of_local_reaches_the_pipeline(installed, tmp_path, monkeypatch):
    asked: list[local.Request] = []
    monkeypatch.setattr(local, "run_locally", lambda _, request, **__: asked.append(request) or 0)
    given = {
        "--annotation-version": "v0.3.0", "--config": "yolox_s", "--epochs": "7", "--select-by": "segm_mAP",
        "--split": "val", "--candidate": "file:///other", "--images": "gs://bucket/unseen", "--score-threshold": "0.5",
        "--device": "cpu", "--on-out-of-memory": "fail", "--set": "seed=3", "--recipe": "min_area=9", "--group-by": "(.)",
    }  # fmt: skip
    words = [word for pair in given.items() for word in pair]
    assert main(["--workspace", str(tmp_path), "local", "--category", "desk", "--stratify", *words]) == 0
    (request,) = asked
    arguments = local.arguments_of(pipeline_of(request.steps), request)
    assert arguments == {
        "category": "desk", "annotation_version": "v0.3.0", "train_config": "yolox_s", "train_epochs": 7,
        "evaluate_select_by": "segm_mAP", "evaluate_split": "val", "evaluate_candidates": ["file:///other"],
        "test_images": "gs://bucket/unseen", "test_score_threshold": 0.5, "device": "cpu", "train_on_out_of_memory": "fail",
        "train_overrides": {"seed": 3},
        "recipe": {"min_area": 9, "group_by": "(.)", "stratify": True},
    }  # fmt: skip


@pytest.mark.parametrize("before", [True, False])
def test_the_workspace_is_named_before_or_after_the_command(tmp_path, before):
    named = ["--workspace", str(tmp_path / "mine")]
    done = run_pipeline(*named, "versions") if before else run_pipeline("versions", *named)
    assert (done.returncode, f"{tmp_path / 'mine'}" in done.stdout) == (0, True), done


def test_without_a_container_engine_the_docker_runner_says_so(installed, tmp_path, monkeypatch, capsys):
    for name in ("SIGHTLINE_PARENT", "SIGHTLINE_PROGRESS"):  # the run sets them, and here it is no process of its own
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    images = ["--steps", "test", "--model", "file:///m", "--images", str(tmp_path / "photos")]
    assert main(["local", "--category", "desk", "--runner", "docker", "--workspace", str(tmp_path), *images]) == 1
    assert "No container engine answers at unix:///nowhere/docker.sock" in capsys.readouterr().err


def test_ctrl_c_ends_a_command_with_what_to_type(installed, tmp_path, monkeypatch, capsys):
    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("laptop.catalogue.versions", interrupted)
    try:
        status = main(["versions", "--workspace", str(tmp_path)])
    except KeyboardInterrupt:  # which would end all tests
        pytest.fail("Ctrl-C is not caught")
    assert status == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_lock_that_a_killed_git_left_is_named(tmp_path):
    run("git", "init", "--quiet", str(tmp_path))
    (tmp_path / ".git" / "index.lock").touch()
    (tmp_path / "a").touch()
    with pytest.raises(GitError, match=rf"left the file {tmp_path}/\.git/index\.lock: remove it and run again"):
        run_git("dataset.git", ("Ada", "ada@example.com"), tmp_path, "add", "a")


def test_logs_prints_a_steps_log(tmp_path, monkeypatch, capsys):
    run_id = "5d2f8c1e-0000-4000-8000-000000000000"
    pods = [
        {
            "metadata": {
                "name": f"{step}-pod",
                "namespace": "kubeflow",
                "creationTimestamp": f"2026-01-01T00:00:0{number}Z",
                "labels": {"pipeline/runid": run_id},
                "annotations": {"workflows.argoproj.io/node-name": f"wf(0).root(0).{step}(0).{kind}(0)"},
            },
            "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": "Succeeded"},
        }
        for number, (step, kind) in enumerate((("record", "executor"), ("train", "driver"), ("train", "executor")))
    ]
    pods[1]["metadata"]["name"] = "driver"  # type: ignore[index]
    with (
        serve(KfpServer()) as server,
        serve_pods(pods, {"record-pod": "recorded\n", "train-pod": "trained\n"}) as address,
    ):
        ours = {"pipeline_spec": {"pipelineInfo": {"name": "sightline"}}}
        server.runs[run_id] = {"run_id": run_id, "experiment_id": "e", "state": "SUCCEEDED", **ours}
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        monkeypatch.delenv("SIGHTLINE_DATABASE_URL", raising=False)
        kubeconfig = str(write_kubeconfig(tmp_path / "kubeconfig", address))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", kubeconfig)
        here = ["--workspace", str(tmp_path)]
        assert main(["logs", "5d2f", "train", *here]) == 0
        assert capsys.readouterr().out == "trained\n"
        assert main(["logs", "latest", *here]) == 0
        assert capsys.readouterr().out == "recorded\ntrained\n"
