"""A laptop's workspace: what stands for the volume's live copy."""

import os
from pathlib import Path

import pytest

from laptop.workspace import LIBRARY, open_workspace


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("SIGHTLINE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(tmp_path / "volume"))
    for name in ("STORAGE", "DATABASE_URL", "DATASET_REPO"):
        monkeypatch.setenv(f"SIGHTLINE_{name}", "as the workspace would set it")
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def test_an_empty_volume_gets_a_link_to_this_checkout(volume: Path, tmp_path: Path) -> None:
    open_workspace(tmp_path)
    assert (volume / "code").resolve() == LIBRARY


def test_the_link_of_another_checkout_is_replaced(volume: Path, tmp_path: Path) -> None:
    (volume / "code").symlink_to("/another/checkout/shared_volume")
    open_workspace(tmp_path)
    assert (volume / "code").resolve() == LIBRARY


def test_what_sync_put_there_stays(volume: Path, tmp_path: Path) -> None:
    (volume / "copies" / "one").mkdir(parents=True)
    (volume / "code").symlink_to("copies/one")
    open_workspace(tmp_path)
    assert (volume / "code").readlink() == Path("copies/one")


@pytest.mark.slow
def test_a_real_folder_stays(volume: Path, tmp_path: Path) -> None:
    (volume / "code").mkdir()
    open_workspace(tmp_path)
    assert (volume / "code").is_dir() and not (volume / "code").is_symlink()
