"""Fixtures that more than one folder of tests uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import images

pytest_plugins = ["tests.tiers"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real annotated photographs, and what a real Kubeflow Pipelines server said."""
    return Path(__file__).with_name("data")


@pytest.fixture(autouse=True)
def no_remembered_images(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer's `make images` left in this checkout is no part of a test."""
    monkeypatch.setattr(images, "REMEMBERED", tmp_path_factory.getbasetemp() / "none" / images.REMEMBERED.name)


@pytest.fixture(autouse=True)
def no_settings_left_behind() -> Iterator[None]:
    """Commands that run in this process leave their options in the environment, as their own process would."""
    before = {name: value for name, value in os.environ.items() if name.startswith("SIGHTLINE_")}
    yield
    for name in [name for name in os.environ if name.startswith("SIGHTLINE_") and name not in before]:
        del os.environ[name]
    os.environ.update(before)
