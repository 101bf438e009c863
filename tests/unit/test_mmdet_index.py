"""The index of mmdet's configs: what it says of one, and that it says what the installed package does."""

import subprocess
import sys
from importlib import metadata

import pytest

from sightline.errors import ConfigError
from sightline.models import mmdet_index
from sightline.models.mmdet_listed import VERSION
from tests.workspace import REPOSITORY

LISTED = REPOSITORY / "shared_volume" / "sightline" / "models" / "mmdet_listed.py"


def test_the_index_is_what_the_installed_package_says() -> None:
    """Otherwise: python -m tests.mmdet_index > shared_volume/sightline/models/mmdet_listed.py"""
    script = "import sys; from tests import mmdet_index as m; print(m.module_text(), end=''); sys.exit('mmdet' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert made.stdout == LISTED.read_text()
    assert made.stderr == "", "a metafile names a config that is not there"


def test_the_index_is_of_the_locked_version() -> None:
    locked = (REPOSITORY / "docker" / "requirements" / "train.txt").read_text().splitlines()
    assert f"onedl-mmdetection=={VERSION}" in locked
    assert metadata.version("onedl-mmdetection") == VERSION


def test_it_needs_neither_mmengine_nor_torch_nor_mmdet() -> None:
    script = (
        "import sys; sys.modules['mmengine'] = sys.modules['torch'] = sys.modules['mmdet'] = None\n"
        "from sightline.models.mmdet_index import names; print(len(names()))"
    )
    path = {"PYTHONPATH": str(REPOSITORY / "shared_volume")}
    done = subprocess.run([sys.executable, "-c", script], env=path, check=True, capture_output=True, text=True)
    assert done.stdout == "827\n"


def test_a_config_is_known_with_its_task_data_score_and_weights() -> None:
    found = mmdet_index.find("mmdet::rtmdet-ins_tiny_8xb32-300e_coco")
    assert found.path == "configs/rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py"
    assert found.tasks == ("detection", "instance") and found.data == ("COCO",)
    assert found.scores == {"box AP": 40.5, "mask AP": 35.4}
    (weights,) = found.weights
    assert weights.address.startswith("https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet-ins_tiny")
    assert weights.address.endswith(f"-{weights.digest}.pth") and len(weights.digest) == 8


def test_all_addresses_of_the_metafiles_are_there_and_nearly_all_tell_a_digest() -> None:
    weights = {each for config in mmdet_index.search("") for each in config.weights}
    assert len(weights) == 590
    assert sorted(each.address.rpartition("/")[2] for each in weights if not each.digest) == [
        "ddq_detr_5scale_coco_1x.pth",
        "ddq_detr_swinl_30e.pth",
    ]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("yolox_s_8xb8-300e_coco", "yolox/yolox_s_8xb8-300e_coco"),
        ("mmdet::yolox/yolox_s_8xb8-300e_coco.py", "yolox/yolox_s_8xb8-300e_coco"),
        ("mmdet::configs/yolox/yolox_s_8xb8-300e_coco.py", "yolox/yolox_s_8xb8-300e_coco"),
        ("mask-rcnn_r50_fpn_gn-ws-all_2x_coco", "gn+ws/mask-rcnn_r50_fpn_gn-ws-all_2x_coco"),
        ("glip/odinw/override_category", "glip/odinw/override_category"),
    ],
)
def test_a_config_is_found_by_its_name_or_path(name: str, path: str) -> None:
    assert mmdet_index.find(name).path == f"configs/{path}.py"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mmdet::rtmdet_tiny_8xb32-300e_cocco", "no config named .*Did you mean 'rtmdet_tiny_8xb32-300e_coco'"),
        ("yolox_s_8x8_300e_coco", "Did you mean 'yolox_s_8xb8-300e_coco'"),
        ("rtmdet/rtmdet_tiny_8xb32_300e_coco", "Did you mean 'rtmdet/rtmdet_tiny_8xb32-300e_coco'"),
        ("nothing like it, really", "named as their files, like rtmdet_tiny"),
        ("override_category", "3 configs.*mmdet::glip/odinw/override_category or mmdet::grounding_dino"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        mmdet_index.find(name)


def test_every_name_finds_its_own_config() -> None:
    names = mmdet_index.names()
    assert len(names) == len(set(names)) == 827
    assert [mmdet_index.find(name).name for name in names] == list(names)


def test_search_takes_words_of_path_task_and_data() -> None:
    found = [config.name for config in mmdet_index.search("RTMDet instance")]
    assert found == [f"rtmdet-ins_{size}_coco" for size in ("l_8xb32-300e", "m_8xb32-300e", "s_8xb32-300e", "tiny_8xb32-300e", "x_8xb16-300e")]  # fmt: skip
    assert mmdet_index.search("rtmdet no-such-word") == ()
    assert {task for config in mmdet_index.search("openimages") for task in config.tasks} == {"detection"}
