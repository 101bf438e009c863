"""Python 3.11 to 3.13: all that names the range agrees, and the locks serve each of them."""

import ast
import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from laptop.setup_environment import PYTHONS
from tests.unit.test_locks import EXTRAS, REPOSITORY, REQUIREMENTS, lock_lines, locked, normalised
from tests.workspace import copy_checkout

(_, OLDEST), (_, NEWEST) = PYTHONS
EVERY = tuple(f"3.{minor}" for minor in range(OLDEST, NEWEST + 1))
LEFT_OUT = {"torch", "opencv-python"}
"""The installer's business; replaced in docker/requirements/overrides.txt."""


def on(python: str, requirements: Iterable[str]) -> list[str]:
    """The distributions of these lines that a Python needs, on Linux and without extras."""
    asked = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    lines = map(Requirement, requirements)
    return [normalised(line.name) for line in lines if not line.marker or line.marker.evaluate(asked)]


def on_lock(python: str, lock: str) -> list[str]:
    return on(python, lock_lines(REQUIREMENTS / f"{lock}.txt"))


@pytest.mark.parametrize("version", [(3, 8, 10), (3, 9, 1), (3, 10, 12)])
def test_a_python_that_is_too_old_is_told_in_words_that_it_can_read(version):
    pipeline = REPOSITORY / "pipeline.py"
    ast.parse(pipeline.read_text(), feature_version=(3, 6))
    old = f"import runpy, sys; sys.version_info = {version}; runpy.run_path({str(pipeline)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True, check=False)
    told = f"error: this is Python {'.'.join(map(str, version))} ({sys.executable}), and Python 3.{OLDEST} to 3.{NEWEST} is needed. "
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith(told)
    assert "source .venv/bin/activate" in done.stderr and "Traceback" not in done.stderr


def test_a_python_beside_the_environment_is_told_to_activate_it(tmp_path):
    """As the distribution's, which may have yaml and nothing else that doctor needs."""
    checkout = copy_checkout(tmp_path / "checkout")
    (tmp_path / "found" / "yaml.py").parent.mkdir()
    (tmp_path / "found" / "yaml.py").touch()
    command = [sys.executable, "-S", str(checkout / "pipeline.py"), "versions"]
    told = {}
    for made in (False, True):
        if made:
            (checkout / ".venv" / "bin" / "activate").parent.mkdir(parents=True)
            (checkout / ".venv" / "bin" / "activate").touch()
        beside = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "found")}
        done = subprocess.run(command, cwd=checkout, env=beside, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        told[made] = done.stderr
    assert told[False].endswith("Type `make setup` (or `make setup-submit`) once, then `source .venv/bin/activate`.\n")
    assert told[True].endswith("does not have. Type `source .venv/bin/activate`.\n")


def test_all_that_names_the_pythons_agrees():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert setup["options"]["python_requires"] == f">=3.{OLDEST},<3.{NEWEST + 1}"
    tried = re.findall(r"^PYTHONS := (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert tried == [" ".join(f"python{version}" for version in reversed(EVERY))]
    for page in ("Makefile", "README.md", "docs/troubleshooting.md", "docs/development.md"):
        assert f"Python {EVERY[0]} to {EVERY[-1]}" in (REPOSITORY / page).read_text(), page


def test_code_is_checked_as_of_the_oldest_python():
    assert f'target-version = "py3{OLDEST}"' in (REPOSITORY / "ruff.toml").read_text()
    assert f"python_version = {EVERY[0]}" in (REPOSITORY / "setup.cfg").read_text()
    images = set(re.findall(r"^FROM python:([\d.]+)", (REPOSITORY / "docker" / "Dockerfile").read_text(), re.MULTILINE))
    assert images <= set(EVERY)


@pytest.mark.parametrize("python", EVERY)
@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_has_one_version_of_each_package_for_every_python(lock, python):
    counted = Counter(on_lock(python, lock))
    assert [name for name, times in counted.items() if times > 1] == []
    assert len(counted) > 50


@pytest.mark.parametrize("python", EVERY)
def test_what_is_installed_serves_every_python(python):
    """Its first release, too: Debian 12 has 3.11.2."""
    pins = locked("dev")
    wanted = {
        normalised(found.name): found.metadata["Requires-Python"] or ""
        for found in importlib.metadata.distributions()
        if pins.get(normalised(found.name)) == found.version
    }
    assert len(wanted) > 150
    assert [name for name, pythons in wanted.items() if not SpecifierSet(pythons).contains(f"{python}.0")] == []


@pytest.mark.parametrize("python", EVERY)
def test_a_lock_holds_what_its_packages_need_on_every_python(python):
    """What was in the standard library once, like imghdr, may be needed from one Python on."""
    held = set(on_lock(python, "dev"))
    needed = {
        name: on(python, found.requires or [])
        for found in importlib.metadata.distributions()
        if (name := normalised(found.name)) in held
    }
    assert len(needed) > 150
    assert {name: lacking for name, all_ in needed.items() if (lacking := set(all_) - held - LEFT_OUT)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("python", EVERY)
@pytest.mark.parametrize("lock", EXTRAS)
def test_the_registry_has_every_lock_for_every_python(tmp_path: Path, lock: str, python: str):
    files = [lock, "torch", "cuda"] if lock in ("train", "dev") else [lock]
    asked = [word for name in files for word in ("-r", REQUIREMENTS / f"{name}.txt")]
    uv = [Path(sys.executable).with_name("uv"), "pip", "install", "--dry-run", "--no-deps", "--target", tmp_path]
    done = subprocess.run([*uv, "--python-version", python, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    planned = re.findall(r"^ \+ ([\w.-]+)==", done.stderr, re.MULTILINE)
    assert set(planned) == {name for file in files for name in on_lock(python, file)}
