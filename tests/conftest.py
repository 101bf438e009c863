"""Fixtures that more than one folder of tests uses."""

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
