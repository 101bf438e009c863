"""docs/configs.md, which says what works of mmdet's families, and the command that tries them."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from sightline.models.config import config_from_data
from sightline.models.mmdet_index import CONFIGS, find
from sightline.tasks.detection.fit import build_model, register
from tests import mmdet_families
from tests.mmdet_families import NO_FAMILIES, families, main, try_family
from tests.mmdet_families_one import FAILED, OPERATOR, PACKAGE, REFUSED, WORKS, Outcome
from tests.mmdet_families_page import counted_families, page
from tests.mmdet_index import shipped
from tests.workspace import REPOSITORY

PAGE = REPOSITORY / "docs" / "configs.md"
ROW = re.compile(r"^\| ([^ |]+) \| `([^`]+)` \| (.+) \|$", re.MULTILINE)
TOLD = {"works": WORKS, "compiled operator": OPERATOR, "package": PACKAGE, "refused": REFUSED, "fails": FAILED}
QUICK = "yolox"


def outcomes_of(text: str) -> dict[str, Outcome]:
    """What a page tells, by family."""
    found = {}
    for family, config, told in ROW.findall(text):
        assert family not in found, f"{family} is there twice"
        state, _, reason = told.partition(": ")
        found[family] = Outcome(config, TOLD[state], reason.strip("`"))
    return found


def folder_of(config: str) -> str:
    return find(config).path.removeprefix(f"{CONFIGS}/").partition("/")[0]


def test_the_page_has_every_family_of_mmdets_package_once_with_one_of_its_configs() -> None:
    told = outcomes_of(PAGE.read_text())
    installed = {path.name for path in shipped().iterdir() if path.is_dir()} - {"_base_", "__pycache__", *NO_FAMILIES}
    assert list(told) == list(families()) == sorted(installed)
    assert [folder_of(outcome.config) for outcome in told.values()] == list(told)


def test_at_least_four_fifths_of_the_families_that_need_no_compiled_operator_work() -> None:
    text = PAGE.read_text()
    told = outcomes_of(text)
    counted = counted_families(told)
    working = [family for family in counted if told[family].state == WORKS]
    assert len(counted) > 60
    assert len(working) >= 0.8 * len(counted)
    assert page(told) == text


def test_a_family_is_tried_and_its_row_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "configs.md"
    assert main(["--only", QUICK, "--write", str(written)]) == 0
    (outcome,) = outcomes_of(written.read_text()).values()
    assert (folder_of(outcome.config), outcome.state) == (QUICK, WORKS)
    (kept,) = json.loads((tmp_path / "configs.json").read_text()).values()
    assert kept["found"] > 0
    assert main(["--only", QUICK, "--write", str(written)]) == 0, "from what was kept"
    assert capfd.readouterr().out.count(": works") == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deformable_detr", "ssd"])
def test_a_family_that_needed_mending_works(family: str, tmp_path: Path) -> None:
    """A model that writes into its config while it is built; a head without a loss that it is asked for."""
    assert main(["--only", family, "--results", str(tmp_path / "kept.json")]) == 0
    (kept,) = json.loads((tmp_path / "kept.json").read_text()).values()
    assert (kept["state"], kept["reason"]) == (WORKS, "")


def test_a_model_that_writes_into_its_config_while_it_is_built_is_built_twice() -> None:
    class Writes(BaseModel):
        def __init__(self, head: dict) -> None:
            assert "sizes" not in head
            head["sizes"] = 4
            super().__init__()

        def forward(self, inputs: object, data_samples: object = None, mode: str = "loss") -> dict:
            return {}

    register()
    MODELS.register_module(module=Writes, name="Writes", force=True)
    config = config_from_data({"model": {"type": "Writes", "head": {"layers": 2}}})
    assert isinstance(build_model(config), Writes) and isinstance(build_model(config), Writes)
    assert config.model.to_dict() == {"type": "Writes", "head": {"layers": 2}}


def test_the_mask_of_a_box_beside_the_image_is_empty_and_that_of_one_on_its_edge_is_not() -> None:
    register()
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    head = FCNMaskHead(num_convs=0, num_classes=1)
    boxes = torch.tensor([[40.0, 4, 60, 20], [-30, 4, -9, 20], [24, 4, 40, 20], [4, 4, 12, 20]])
    found = InstanceData(bboxes=boxes, labels=torch.zeros(4, dtype=torch.long), scores=torch.ones(4))
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": (32, 32), "img_shape": (32, 32)}
    painted = torch.full((4, 1, 28, 28), 9.0)
    (results,) = head.predict_by_feat([painted], [found], [meta], ConfigDict(mask_thr_binary=0.5))
    assert results.masks.flatten(1).sum(1).tolist() == [0, 0, 8 * 16, 8 * 16]


def ends_itself(*_ignored: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(*_ignored: object) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("work", "told"), [(ends_itself, "ended by signal 9"), (hangs, "took longer than 0.5 s")], ids=["crash", "hang"]
)
def test_a_family_that_crashes_or_hangs_is_a_row(monkeypatch: pytest.MonkeyPatch, work: object, told: str) -> None:
    monkeypatch.setattr(mmdet_families, "run_and_write", work)
    outcome = try_family(["atss/atss_r50_fpn_1x_coco"], seconds=0.5 if work is hangs else 60)
    assert (outcome.config, outcome.state, outcome.reason) == ("atss/atss_r50_fpn_1x_coco", FAILED, told)
