"""Setting up for real: a fresh copy of the checkout, each Python from the oldest to the newest, and a new Debian."""

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from laptop import setup_environment
from tests.checkout import copy_whole_checkout
from tests.debian_root import DebianRoot, NoRootError, debian_root
from tests.unit.test_pythons import EVERY
from tests.workspace import copy_checkout, run_pipeline

DEBIAN = "trixie"
README_NEEDS = ("python3", "git", "make")
"""Without venv, which a newcomer may overlook."""
CHECKOUT = "/root/sightline"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The pipeline as this environment compiles it."""
    target = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    done = run_pipeline("compile", "-o", str(target))
    assert done.returncode == 0, done.stderr
    return target.read_bytes()


# --- without an environment ------------------------------------------------------------------------------------------


def without_packages(pipeline: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it with the same Python as after a clone, before anything is installed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", str(pipeline), *words]
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=False)


def test_a_command_outside_the_environment_says_how_to_get_into_it(tmp_path):
    done = without_packages(copy_checkout(tmp_path / "sightline") / "pipeline.py", "doctor")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: yaml is not installed for {sys.executable}. "
        "Type `source .venv/bin/activate`, after `make setup` or `make setup-submit` once.\n"
    )


def test_a_module_of_ours_that_is_missing_is_no_matter_of_setting_up(tmp_path):
    checkout = copy_checkout(tmp_path / "sightline")
    (checkout / "components" / "parameters.py").unlink()
    done = without_packages(checkout / "pipeline.py", "doctor")
    assert "ModuleNotFoundError: No module named 'components.parameters'" in done.stderr
    assert "make setup" not in done.stderr


# --- whom to trust ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "in_folder", "said"),
    [("ca.crt", [], "1"), (None, ["one.pem"], "1"), (None, [], None), (None, None, None)],
    ids=["a file", "a folder", "an empty folder", "none"],
)
def test_the_systems_certificates_are_trusted_where_it_has_some(tmp_path, monkeypatch, file, in_folder, said):
    folder = tmp_path / "certs"
    for name in in_folder or []:
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    if in_folder == []:
        folder.mkdir()
    paths = SimpleNamespace(cafile=file, capath=None if in_folder is None else str(folder))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.setattr(setup_environment, "_find_links", lambda python: [])
    monkeypatch.delenv("UV_SYSTEM_CERTS", raising=False)
    assert setup_environment._Installer(tmp_path).environment.get("UV_SYSTEM_CERTS") == said
    monkeypatch.setenv("UV_SYSTEM_CERTS", "0")
    assert setup_environment._Installer(tmp_path).environment["UV_SYSTEM_CERTS"] == "0"


# --- every Python ----------------------------------------------------------------------------------------------------


def find_python(version: str) -> str:
    """A Python of this version with venv, from the PATH or from pyenv; skips the test where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python3"))]
    for python in filter(None, found):
        if setup_environment._has_venv(python):
            return python
    pytest.skip(f"no Python {version} with venv on the PATH or from pyenv")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A copy of the whole checkout without an environment; gone afterwards, as environments are large."""
    yield copy_whole_checkout(tmp_path / "sightline")
    shutil.rmtree(tmp_path / "sightline")


@pytest.mark.slow
@pytest.mark.parametrize("version", EVERY)
def test_the_small_environment_serves_with_every_python(fresh, compiled, version):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "SIGHTLINE_"))}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=fresh, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python = find_python(version)
    assert f"with Python {version}." in run("make", "setup-submit", f"PYTHON={python}")
    assert run("make", "setup-submit", f"PYTHON={python}") == "", "the second time nothing is done"
    run(".venv/bin/python", "pipeline.py", "compile", "-o", "pipeline.yaml")
    assert (fresh / "pipeline.yaml").read_bytes() == compiled
    assert "compile" in run(".venv/bin/python", "pipeline.py", "--help")
    assert "no versions yet" in run(".venv/bin/python", "pipeline.py", "versions")
    told = run(".venv/bin/python", "pipeline.py", "doctor")
    assert re.search(
        rf"^ok +python +{re.escape(version)}\.\S+ in .*, packages as submit\.txt pins them$", told, re.MULTILINE
    )
    assert told.endswith("all is well\n")


# --- a new machine ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debian() -> Iterator[DebianRoot]:
    try:
        with debian_root(DEBIAN, [*README_NEEDS, "ca-certificates"]) as root:
            copy_whole_checkout(root.folder / CHECKOUT.lstrip("/"))
            yield root
    except NoRootError as error:
        pytest.skip(str(error))


@pytest.fixture
def typed(debian: DebianRoot) -> Callable[..., str]:
    """Runs what a newcomer types in the checkout; what it printed. It must succeed, unless another status is named."""

    def run(line: str, status: int = 0) -> str:
        done = debian.run(line, inside=CHECKOUT)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_a_new_debian_is_told_what_to_install_and_then_sets_up(debian, typed, compiled):
    refused = typed("make setup-submit", status=2)
    assert "Traceback" not in refused
    (advice,) = re.findall(r"\(Debian: (apt install [\w.-]+)\)", refused)
    assert not (debian.folder / CHECKOUT[1:] / ".venv").exists()
    typed(f"DEBIAN_FRONTEND=noninteractive {advice} --yes --no-install-recommends -o Dpkg::Use-Pty=0")
    typed("make setup-submit")
    typed(".venv/bin/python pipeline.py compile -o pipeline.yaml")
    assert (debian.folder / CHECKOUT[1:] / "pipeline.yaml").read_bytes() == compiled
    assert typed(".venv/bin/python pipeline.py doctor").endswith("all is well\n")
    assert "source .venv/bin/activate" in typed("python3 pipeline.py doctor", status=1)
