"""`pipeline.py configs`: what it lists, shows and copies, with mmengine and without."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from laptop import configs
from laptop.cli import main

REPOSITORY = Path(__file__).parents[2]
WITHOUT = """
import sys
sys.modules["mmengine"] = None
from laptop.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(REPOSITORY / "shared_volume/configs", tmp_path / "configs")
    (tmp_path / "custom/configs").mkdir(parents=True)
    monkeypatch.setattr(configs, "LIBRARY", tmp_path)
    return tmp_path


def test_configs_lists_shows_and_copies_ours_and_those_of_mmdet(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["configs", "rtmdet-ins", "tiny"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mmdet::")]
    name = "mmdet::rtmdet-ins_tiny_8xb32-300e_coco"
    assert line.split() == [name, "mmdet", "detection,", "instance", "5.6", "yes"]

    assert main(["configs", "show", name]) == 0
    assert "type='EMAHook'" in capsys.readouterr().out
    assert main(["configs", "copy", name]) == 0
    copied = library / "custom/configs/rtmdet-ins_tiny_8xb32-300e_coco.py"
    assert '_base_ = "mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py"' in copied.read_text()
    assert main(["configs", "copy", name]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["configs", "copy", "yolox_s"]) == 0
    assert '_base_ = "../../configs/yolox_s.py"' in (library / "custom/configs/yolox_s.py").read_text()
    assert main(["configs", "tiny"]) == 0
    assert "yours" in capsys.readouterr().out
    assert main(["configs", "show", "mmdet::rtmdet-ins_tinny_8xb32-300e_coco"]) == 1
    assert f"Did you mean '{name.removeprefix('mmdet::')}'" in capsys.readouterr().err


def test_without_mmengine_configs_are_listed_and_what_cannot_be_told_is_said() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT, "configs", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    listed = run("yolox_s")
    assert listed.returncode == 0, listed.stderr
    assert "mmdet::yolox_s_8xb8-300e_coco" in listed.stdout
    assert "Parameters are counted where mmengine is installed." in listed.stdout
    shown = run("show", "yolox_s")
    assert shown.returncode == 1
    assert "takes mmengine, which this environment lacks" in shown.stderr
