"""What a user asked for is looked at before anything runs, without mmengine and without running a config."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from sightline.errors import NoConfigError, SightlineError
from sightline.models import config_files
from sightline.models.config_files import check_config
from sightline.models.config_keys import UNKNOWN
from sightline.models.registered import NAMES
from sightline.services.runs.config_chains import config_chain
from sightline.settings import read_settings
from sightline.steps.snapshot.check import Asked, check_gpus, check_recipe, check_scores, check_training
from sightline.steps.snapshot.start import start_run
from tests.earlier_form import EARLIER
from tests.live_code import append, copy_live
from tests.workspace import REPOSITORY, run_pipeline

CONFIG = "mask_rcnn_r18_small"
DEFAULT = "mask_rcnn_lite0"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_live(tmp_path_factory.mktemp("asked") / "code")


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "shared_volume" / "configs").glob("*.py")))
def test_a_config_says_the_same_read_as_run(live: Path, name: str) -> None:
    chain = config_chain(live, name)
    trees = {file: config_files.ast.parse((live / file).read_bytes()) for file in chain}
    same(config_files._read(chain[0], trees), Config.fromfile(live / chain[0]).to_dict())
    check_config(live, name, "classification" if name.startswith("classifier") else "detection", {})


def same(read: object, run: object) -> None:
    if read is UNKNOWN:
        return
    if isinstance(read, dict):
        assert isinstance(run, dict) and read.keys() == run.keys()
        for key in read:
            same(read[key], run[key])
    elif isinstance(read, list | tuple):
        assert type(read) is type(run) and len(read) == len(run)  # type: ignore[arg-type]
        for one, other in zip(read, run, strict=True):  # type: ignore[call-overload]
            same(one, other)
    else:
        assert read == run


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"optim_wraper.optimizer.lr": 0.1}, "Did you mean 'optim_wrapper'"),
        ({"optim_wrapper.optimizer.lrr": 0.1}, "Did you mean 'lr'"),
        ({"model": {"bacbone": {"depth": 18}}}, "Did you mean 'backbone'"),
        ({"param_scheduler.7.end": 3}, "is a list of 2"),
        ({"+optim_wraper.optimizer.x": 1}, "Did you mean 'optim_wrapper'"),
        ({"optim_wrapper.optimizer.type": "AdmaW"}, "^optim_wrapper.optimizer.type is 'AdmaW'.*Did you mean 'AdamW'"),
        ({"optim_wrapper.optimizer.type": "SDG"}, "Did you mean 'SGD'"),
        ({"model.backbone": {"type": "mmdet.Resnet"}}, "^model.backbone.type is 'mmdet.Resnet'.*Did you mean 'ResNet'"),
        ({"train_pipeline.2.type": "Resiz"}, "^train_pipeline.2.type is 'Resiz'.*Did you mean 'Resize'"),
        ({"+custom_hooks": [{"type": "EMAHok"}]}, "^custom_hooks.0.type is 'EMAHok'.*Did you mean 'EMAHook'"),
        ({"+early_stopping.patiance": 3}, "nothing reads the key 'early_stopping.patiance'.*Did you mean 'patience'"),
        ({"train_batch_size": "lots"}, "train_batch_size is 'lots', and must be a whole number of at least 1"),
        ({"train_batch_size": 0.0}, "train_batch_size is 0, and must be a whole number of at least 1"),
        ({"max_epochs": 2.5}, "max_epochs is 2.5"),
        ({"num_workers": True}, "num_workers is True, and must be a whole number of at least 0"),
        ({"early_stopping": {"patience": -1}}, "early_stopping.patience is -1"),
        ({"optim_wrapper.optimizer.lr": "1e-3x"}, "optim_wrapper.optimizer.lr is '1e-3x', and must be a number"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds is nan"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest(live: Path, overrides: dict, told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        check_training(live, Asked("desk", CONFIG, overrides=overrides), "detection", "desk v0.1.0")


@pytest.mark.parametrize(
    "overrides",
    [
        {"optim_wrapper.optimizer.lr": 0.1, "train_pipeline.2.scale": [64, 64], "max_epochs": 1.0},
        {"+model.backbone.with_cp": True, "+optim_wrapper.accumulative_counts": 2},
        {"optim_wrapper.optimizer.type": "Nothing"},  # like no other: train knows
        {"model.backbone.type": "timm.Resnet", "+model.test_cfg.rpn.nms.type": "soft_nms"},
        {"model.rpn_head.bbox_coder.target_means.0": 1.0},  # an expression: only running the config would tell
    ],
)
def test_what_can_be_set_is_accepted(live: Path, overrides: dict) -> None:
    assert check_training(live, Asked("desk", "", overrides=overrides), "detection", "desk v0.1.0") == DEFAULT


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("max_epoch = 3", "max_epoch"),
        ("for number in range(3):\n    seed = number\nmax_epoch = 3", "max_epoch"),
        ("early_stopping = dict(patience=3, patiance=7)", "early_stopping.patiance"),
    ],
)
def test_a_key_that_nothing_reads_is_refused_by_name(live: Path, text: str, key: str) -> None:
    path = append(live, "custom/configs/mine.py", f'_base_ = ["../../configs/{CONFIG}.py"]\n{text}')
    try:
        with pytest.raises(SightlineError, match=rf"^custom/configs/mine\.py: nothing reads the key '{key}'"):
            check_config(live, "mine", "detection", {})
    finally:
        path.unlink()


@pytest.mark.parametrize("text", ["resume = True", "train_cfg = dict(max_epochs=2)", "resume = True\n_again = resume"])
def test_keys_of_mmdets_form_are_refused_in_a_config_of_our_earlier_form(live: Path, text: str) -> None:
    path = append(live, "custom/configs/mine.py", f"{EARLIER}\n{text}")
    try:
        with pytest.raises(
            SightlineError, match=rf"^custom/configs/mine\.py: nothing reads the key '{text.split()[0]}'"
        ):
            check_config(live, "mine", "detection", {})
    finally:
        path.unlink()


@pytest.mark.parametrize(
    "text",
    [
        "load_from = None\nresume = False\ncustom_hooks = []",
        'load_from = "https://server/net-01234567.pth"',
        "size = (64, 64)\ntest_pipeline = [dict(type='Resize', scale=size)]",
        "default_scope = 'mmdet'\nlog_level = 'INFO'\nenv_cfg = dict(cudnn_benchmark=False)",
        "model = dict(_delete_=True, type='X')",
        "own_key = 3",
    ],
)
def test_a_key_that_says_nothing_or_that_something_reads_is_accepted(live: Path, text: str) -> None:
    path = append(live, "custom/configs/mine.py", f'_base_ = ["../../configs/{CONFIG}.py"]\n{text}')
    reads = append(live, "custom/tasks/mine/fit.py", "def training_dataset(config, *_):\n    return config.own_key")
    try:
        check_config(live, "mine", "mine" if "own_key" in text else "detection", {})
    finally:
        path.unlink()
        reads.unlink()


def test_a_misspelt_config_recipe_key_metric_or_number_of_gpus_is_refused(live: Path) -> None:
    with pytest.raises(NoConfigError, match=f"Did you mean '{CONFIG}'"):
        check_training(live, Asked("desk", "mask_rcnn_r18_smal"), "detection", "desk v0.1.0")
    with pytest.raises(SightlineError, match="there is no key 'near_duplicate'. Did you mean 'near_duplicates'"):
        check_recipe(live, Asked("desk", recipe={"near_duplicate": 3}))
    with pytest.raises(
        SightlineError, match="There is no metric 'bbox_mAP50' to select by. Did you mean 'bbox_mAP_50'"
    ):
        check_scores(live, Asked("desk", select_by="bbox_mAP50"), "detection")
    with pytest.raises(SightlineError, match="train_gpus is 2: a step can use one GPU at most"):
        check_gpus(Asked("desk", gpus={"train": "2"}))
    check_gpus(Asked("desk", gpus={"train": "1", "test": ""}))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"config": "mask_rcnn_r18_smal"}, "Did you mean 'mask_rcnn_r18_small'"),
        ({"config": CONFIG, "overrides": {"optim_wrapper.optimizer.type": "AdmaW"}}, "Did you mean 'AdamW'"),
        ({"recipe": {"near_duplicate": 3}}, r"Did you mean 'near_duplicates'\?$"),
        ({"train_gpus": "2"}, "a step can use one GPU at most"),
    ],
)
def test_what_files_tell_is_told_before_git_and_sql_are_asked(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict, told: str
) -> None:
    """Both lie beyond a network, and nobody answers there now."""
    (tmp_path / "code").symlink_to(live)
    monkeypatch.setenv("SIGHTLINE_VOLUME", str(tmp_path))
    monkeypatch.setenv("SIGHTLINE_STORAGE", f"file://{tmp_path}/storage")
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", "mysql+pymysql://nobody:nothing@127.0.0.1:9/none")
    monkeypatch.setenv("SIGHTLINE_DATASET_REPO", "https://127.0.0.1:9/none.git")
    read_settings.cache_clear()
    try:
        with pytest.raises(SightlineError, match=told):
            start_run("desk", **asked)
    finally:
        read_settings.cache_clear()


def test_a_type_of_ones_own_is_known_by_its_code(live: Path) -> None:
    asked = Asked("desk", overrides={"model.backbone.type": "ResNett", "train_pipeline.2.type": "LoadUprightImage"})
    with pytest.raises(SightlineError, match="model.backbone.type is 'ResNett'"):
        check_training(live, asked, "detection", "desk v0.1.0")
    path = append(live, "custom/tasks/mine/models.py", "@MODELS.register_module()\nclass ResNett:\n    pass")
    try:
        check_training(live, asked, "detection", "desk v0.1.0")
        near = Asked("desk", overrides={"model.backbone.type": "ResNettt"})
        with pytest.raises(SightlineError, match="Did you mean 'ResNett'"):
            check_training(live, near, "detection", "desk v0.1.0")
    finally:
        path.unlink()


def test_the_index_of_types_is_what_the_installed_packages_register() -> None:
    """Otherwise: python -m tests.registered_types > shared_volume/sightline/models/registered.py"""
    script = "import json; from tests.registered_types import registered_names; print(json.dumps(sorted(registered_names())))"
    told = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert set(json.loads(told.stdout.splitlines()[-1])) == NAMES


def test_a_metric_of_ones_own_may_select(live: Path) -> None:
    path = append(live, "custom/metrics/far.py", "def score(truth, results, outputs=()):\n    return {'far_off': 1.0}")
    assert check_scores(live, Asked("desk", select_by="far_off"), "detection") == ()
    path.unlink()
    with pytest.raises(SightlineError, match="no metric 'far_off'"):
        check_scores(live, Asked("desk", select_by="far_off"), "detection")


def test_it_needs_no_mmengine() -> None:
    """Snapshot's image has none."""
    script = "import sys; sys.modules['mmengine'] = sys.modules['torch'] = None; import sightline.steps.snapshot.start"
    path = {"PYTHONPATH": str(REPOSITORY / "shared_volume")}
    subprocess.run([sys.executable, "-c", script], env=path, check=True)


def test_local_refuses_a_misspelt_option_at_once(tmp_path: Path) -> None:
    done = run_pipeline("--workspace", str(tmp_path), "local", "--category", "desk", "--recipe", "near_duplicate=3")
    assert done.returncode == 1 and "Did you mean 'near_duplicates'" in done.stderr
    assert "Sightline run" not in done.stdout, "nothing was begun"
