"""setup.cfg says what is needed, the locks in docker/requirements exactly which: both must agree."""

import configparser
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from laptop import setup_environment

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "docker" / "requirements"
NO_LOCKS = {REQUIREMENTS / "overrides.txt"}
"""Input of the resolver."""

EXTRAS = {
    "submit": ("submit", "watch"),
    "data": ("data",),
    "train": ("train",),
    "dev": ("data", "train", "watch", "test"),
    "annotate": ("annotate",),
}
"""Lock -> the extras it holds besides what every command needs; as in docker/requirements/lock.sh."""
LEFT_TO_THE_INSTALLER = {"torch"}
HEAVY = ("torch", "onedl-mmcv", "onedl-mmengine", "onedl-mmdetection", "opencv-python-headless", "nvidia-", "triton")


def lock_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def locked(purpose: str) -> dict[str, str]:
    """Distribution -> version."""
    pins = (line.partition(";")[0].strip().partition("==") for line in lock_lines(REQUIREMENTS / f"{purpose}.txt"))
    return {normalised(name): version for name, _, version in pins}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.partition("[")[0].strip()).lower()


def required(*extras: str) -> dict[str, str]:
    """Distribution -> the version that setup.cfg pins, empty where it leaves that to the lock."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    wanted = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    lines = [line for text in wanted for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {normalised(name): version.strip() for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("path", sorted(set(REQUIREMENTS.glob("*.txt")) - NO_LOCKS), ids=lambda path: path.name)
def test_every_line_of_a_lock_pins_one_version(path):
    assert lock_lines(path)
    assert [line for line in lock_lines(path) if not re.fullmatch(r"[\w.\[\],-]+==[\w.+!]+( ;.+)?", line)] == []


@pytest.mark.parametrize(("purpose", "extras"), EXTRAS.items())
def test_a_lock_holds_what_setup_cfg_asks_for_in_the_version_it_asks_for(purpose, extras):
    pins, wanted = locked(purpose), required(*extras)
    wanted = {name: version for name, version in wanted.items() if name not in LEFT_TO_THE_INSTALLER}
    assert wanted.keys() - pins.keys() == set()
    assert {name: pins[name] for name, version in wanted.items() if version} == {
        name: version for name, version in wanted.items() if version
    }


@pytest.mark.parametrize("purpose", ["submit", "data", "annotate"])
def test_what_needs_no_torch_installs_none(purpose):
    assert [name for name in locked(purpose) if name.startswith(HEAVY)] == []


def test_what_only_submits_stays_small():
    assert locked("submit").keys() & {"numpy", "pillow", "shapely", "pycocotools", "dvc"} == set()


@pytest.mark.parametrize("purpose", EXTRAS)
def test_torch_and_its_cuda_libraries_are_left_to_the_installer(purpose):
    assert [name for name in locked(purpose) if name == "torch" or name.startswith(("nvidia-", "cuda-"))] == []


def test_the_installers_and_the_resolver_use_the_versions_of_setup_cfg():
    pins = required("train", "test")
    assert locked("torch") == {"torch": pins["torch"]}
    assert setup_environment._torch() == f"torch=={pins['torch']}"
    assert f"uv=={pins['uv']}" == setup_environment.UV
    assert locked("dev")["uv"] == pins["uv"]


@pytest.mark.parametrize(
    ("build", "wanted"), [("cpu", ["torch=={}+cpu"]), ("cu130", ["torch=={}+cu130", "-r /build/requirements/cuda.txt"])]
)
def test_an_image_gets_the_torch_of_setup_cfg(monkeypatch, build, wanted):
    image = runpy.run_path(str(REPOSITORY / "docker" / "install_packages.py"))
    asked = []
    monkeypatch.setitem(image["_lock"].__globals__, "BUILD", REQUIREMENTS.parent)
    monkeypatch.setitem(
        image["_install"].__globals__, "_run", lambda *command, **_: bool(asked.append(" ".join(command))) or True
    )
    image["install_torch"](build)
    pin = required("train")["torch"]
    wanted = [line.format(pin).replace("/build", str(REQUIREMENTS.parent)) for line in wanted]
    assert [command.partition(f"{image['WHEELHOUSE']} ")[2] for command in asked] == wanted


def test_the_version_of_torch_is_written_down_once():
    """By hand in setup.cfg; `make lock` makes the other."""
    version = re.escape(required("train")["torch"])
    found = subprocess.run(
        ["git", "grep", "--untracked", "-lE", rf"torch.{{0,12}}\b{version}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if found.returncode > 1:
        pytest.skip("not a Git checkout")
    assert found.stdout.split() == ["docker/requirements/torch.txt", "setup.cfg"]


def test_only_the_steps_that_write_versions_bring_dvc():
    """Steps that read one fetch its objects by our own transfer, as does every upload; dvc-gs is for `dvc pull` alone."""
    assert [name for name in locked("train") if name.startswith(("dvc", "gcsfs", "scmrepo", "pygit2", "celery"))] == []
    assert {name for name in locked("data") if name.startswith(("dvc", "gcsfs"))} >= {"dvc", "dvc-data", "dvc-objects"}
    assert {"dvc-gs", "gcsfs"} & locked("data").keys() == set()
    assert {"dvc", "dvc-gs", "gcsfs"} <= locked("dev").keys()


def test_no_module_has_the_name_of_a_package_that_is_installed_beside_it():
    pins = locked("data") | locked("train") | locked("dev")
    modules = (
        path for folder in ("shared_volume", "laptop", "components") for path in (REPOSITORY / folder).rglob("*.py")
    )
    assert [path for path in modules if normalised(path.stem) in pins] == []


def test_the_locks_agree_with_each_other_on_what_steps_hand_on():
    """Data written by one image is read by another; a development environment is to behave like both."""
    purposes = {purpose: locked(purpose) for purpose in ("submit", "data", "train", "dev")}
    for name in required("data"):
        assert len({pins[name] for pins in purposes.values() if name in pins}) == 1, name
