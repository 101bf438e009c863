"""Opening the annotation program."""

import pytest

from laptop import annotate as module
from laptop.annotate import annotate
from sightline.errors import SightlineError


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A stand-in for labelme that writes down what it was given."""
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / "environment")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    path = tmp_path / "environment" / "bin" / "labelme"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nprintf "%s" "$1$PYTHONPATH" > "{tmp_path}/given"\nexit 3\n')
    path.chmod(0o755)
    return path


def test_labelme_is_opened_on_the_folder_and_its_status_returned(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/this/project")
    folder = tmp_path / "my images"
    folder.mkdir()
    assert annotate(folder) == 3
    assert (tmp_path / "given").read_text() == str(folder)


def test_without_labelme_the_error_names_the_command_that_installs_it(program, tmp_path):
    program.unlink()
    with pytest.raises(SightlineError, match="make annotate-setup"):
        annotate(tmp_path)


def test_a_missing_folder_is_named(program, tmp_path):
    with pytest.raises(SightlineError, match="no folder .*absent"):
        annotate(tmp_path / "absent")


def test_without_a_screen_the_error_says_so(program, tmp_path, monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "linux")
    for name in module.SCREENS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SightlineError, match="needs a screen"):
        annotate(tmp_path)
