"""Fixtures that more than one folder of tests uses."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real annotated photographs that lie beside the checkout on some machines."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real photographs is not beside this checkout")
    return SHARED_DATA
