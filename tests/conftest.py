"""Fixtures that more than one folder of tests uses."""

from pathlib import Path

import pytest

pytest_plugins = ["tests.tiers"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real annotated photographs, and what a real Kubeflow Pipelines server said."""
    return Path(__file__).with_name("data")
