"""Real trainings of configs in mmdet's own form, with hooks, killed and resumed."""

import json
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.steps.train.checkpoints import load_plain
from tests.workspace import Installation, finished

pytestmark = pytest.mark.slow
CODE = Path(__file__).parents[2] / "shared_volume"

CONFIG = """
_base_ = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"
custom_imports = dict(imports=["custom.parts.steps"])
train_cfg = dict(max_epochs=3, val_interval=1, dynamic_intervals=None)
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(type="QuietDarknet", widen_factor=0.125, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
)
train_pipeline = [
    dict(type="Mosaic", img_scale=(64, 64), pad_val=114.0),
    dict(type="MixUp", img_scale=(64, 64), ratio_range=(0.8, 1.6), pad_val=114.0),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline))
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(accumulative_counts=2, optimizer=dict(lr=0.001))
custom_hooks = [
    dict(type="YOLOXModeSwitchHook", num_last_epochs=1, priority=48),
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.1, update_buffers=True, priority=49),
    dict(type="Wobble"),
]
"""
OWN = """
from mmdet.models.backbones import CSPDarknet
from mmdet.registry import HOOKS, MODELS
from mmengine.hooks import Hook

from custom.parts.amounts import AMOUNT


@MODELS.register_module()
class QuietDarknet(CSPDarknet):
    pass


@HOOKS.register_module()
class Wobble(Hook):
    \"\"\"Its state decides how the weights move.\"\"\"

    def __init__(self):
        self.seen = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen += 1
        told = runner.message_hub.get_info("wobbled", 0)
        runner.message_hub.update_info("wobbled", told + 1)
        next(runner.model.parameters()).data.add_(AMOUNT * (self.seen % 3) + AMOUNT * (told % 2))

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint["wobble"] = self.seen

    def after_load_checkpoint(self, runner, checkpoint):
        self.seen = checkpoint["wobble"]
"""
HOOKED = (
    CONFIG[: CONFIG.index("custom_hooks")].replace("parts.steps", "parts.hooks")
    + """
custom_hooks = [dict(type="Counted")]
default_hooks = dict(param_scheduler=None, painted=dict(type="Painted", value=0.25))
"""
)
HOOKS = """
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from custom.parts.steps import QuietDarknet


@HOOKS.register_module()
class Counted(Hook):
    \"\"\"Writes the number of iterations into the model; what it counted so far is its state.\"\"\"

    seen = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen += 1
        runner.model.bbox_head.multi_level_conv_obj[0].bias.data.fill_(self.seen)

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint["counted"] = self.seen

    def after_load_checkpoint(self, runner, checkpoint):
        self.seen = checkpoint["counted"]


@HOOKS.register_module()
class Painted(Hook):
    def __init__(self, value):
        self.value = value

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.model.bbox_head.multi_level_conv_reg[0].bias.data.fill_(self.value)
"""
TRAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import read_settings
from sightline.steps.train.start import train_model
dataset = find_dataset(read_settings(), "plates", "").to_text()
result = train_model(sys.argv[1], dataset, sys.argv[2], json.loads(sys.argv[3]), 0)
print(json.dumps(result.model.to_json()))
"""
USE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sightline.images.files import read_image
from sightline.models.bundle import read_bundle
from sightline.tasks.detection.predict import load_predictor
bundle = read_bundle(Path(sys.argv[2]), sys.argv[3])
found = load_predictor(Path(sys.argv[2]), sha256=sys.argv[3]).results(read_image(bundle.sample_image), 1)
assert found == bundle.sample_predictions, (found[:1], bundle.sample_predictions[:1])
try:
    load_predictor(Path(sys.argv[2]))
except Exception as error:
    print(error)
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    shutil.copytree(CODE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "custom/configs").mkdir(parents=True, exist_ok=True)
    (folder / "custom/parts").mkdir()
    (folder / "custom/configs/mine.py").write_text(CONFIG)
    (folder / "custom/parts/steps.py").write_text(OWN)
    (folder / "custom/configs/hooked.py").write_text(HOOKED)
    (folder / "custom/parts/hooks.py").write_text(HOOKS)
    (folder / "custom/parts/amounts.py").write_text("AMOUNT = 1e-4\n")
    return folder


@pytest.fixture(scope="module")
def installation(recorded: Installation) -> Installation:
    return replace(recorded, prefix="mmdet-form-")


def start(here: Installation, code: Path, config: str = "mine", overrides: dict | None = None) -> subprocess.Popen[str]:
    return here.python(TRAIN, str(code), config, json.dumps(overrides or {}), PYTHONPATH=str(code))


def kill_at(process: subprocess.Popen[str], here: Installation, iteration: int) -> None:
    for _ in range(2400):
        written = [path.read_text() for path in here.volume.glob("work/train-*/history.jsonl")]
        if written and f'"iter": {iteration},' in written[0]:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    pytest.fail("the training never reached that iteration")


@pytest.fixture(scope="module")
def unbroken(installation: Installation, code: Path) -> tuple[Installation, dict]:
    here = installation.with_fresh_volume("whole")
    return here, json.loads(finished(start(here, code)).splitlines()[-1])


def test_hooks_with_state_are_resumed_to_the_bit(
    installation: Installation, code: Path, unbroken: tuple[Installation, dict]
) -> None:
    here = installation.with_fresh_volume("killed")
    every = {"checkpoint_seconds": 0}
    kill_at(start(here, code, overrides=every), here, 3)
    (folder,) = here.volume.glob("work/train-*")
    last = max(json.loads(line)["iter"] for line in (folder / "history.jsonl").read_text().splitlines())
    kill_at(start(here, code, overrides=every), here, last + 2)
    output = finished(start(here, code, overrides=every))
    assert "resumed at iteration" in output
    again, whole = json.loads(output.splitlines()[-1]), unbroken[1]
    storage = here.folder / "storage"
    for kind in ("uri", "last_uri"):
        ours, theirs = (load_file(bundle_folder(storage, each[kind]) / "model.safetensors") for each in (again, whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), kind


def bundle_folder(storage: Path, uri: str) -> Path:
    (found,) = (path for path in storage.rglob(uri.rstrip("/").rpartition("/")[2]) if path.is_dir())
    return found


def test_a_bundle_holds_the_averaged_weights_that_validation_saw(unbroken: tuple[Installation, dict]) -> None:
    here, reference = unbroken
    weights = load_file(bundle_folder(here.folder / "storage", reference["last_uri"]) / "model.safetensors")
    (folder,) = here.volume.glob("work/train-*")
    state = load_plain(max((folder / "checkpoints").glob("iter_*.pth"))) if (folder / "checkpoints").is_dir() else None
    best = load_plain(folder / "best.pth")
    assert best.keys() == weights.keys()
    if state is not None:
        averaged, raw = state["state_dict"], state["ema_state_dict"]
        assert all(torch.equal(weights[name], averaged[name]) for name in weights)
        assert any(not torch.equal(averaged[name], raw[f"module.{name}"]) for name in weights)


def test_a_bundle_with_code_of_its_own_loads_where_that_code_is_not(
    unbroken: tuple[Installation, dict], code: Path, tmp_path: Path
) -> None:
    here, reference = unbroken
    shutil.copytree(code / "sightline", tmp_path / "sightline", ignore=shutil.ignore_patterns("__pycache__"))
    bundle = bundle_folder(here.folder / "storage", reference["uri"])
    told = finished(here.python(USE, str(tmp_path), str(bundle), reference["sha256"], PYTHONPATH=str(tmp_path)))
    assert "brings code of its own (custom/parts/amounts.py, custom/parts/steps.py)" in told


def test_a_config_that_counts_iterations_validates_by_them_and_resumes(installation: Installation, code: Path) -> None:
    by_iteration = CONFIG.replace(
        "train_cfg = dict(max_epochs=3, val_interval=1, dynamic_intervals=None)",
        'train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=9, val_interval=4)',
    )
    (code / "custom/configs/counted.py").write_text(by_iteration)
    lines = []
    for name, killed_at in (("counted", 0), ("counted-killed", 6)):
        here = installation.with_fresh_volume(name)
        every = {"checkpoint_seconds": 0}
        if killed_at:
            kill_at(start(here, code, "counted", every), here, killed_at)
        finished(start(here, code, "counted", every))
        (folder,) = here.volume.glob("work/train-*")
        lines.append([json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()])
    assert [line["iter"] for line in lines[0] if line["kind"] == "val"] == [4, 8, 9]
    assert [line["iter"] for line in lines[0] if line["kind"] == "train"] == list(range(1, 10))
    assert lines[0] == lines[1]


def test_custom_and_default_hooks_have_their_effect_also_after_a_kill(installation: Installation, code: Path) -> None:
    """Custom imports bring them; what they wrote into the model is in its bundle, and no schedule moves the rate."""
    every = {"checkpoint_seconds": 0}
    ended = []
    for name, killed_at in (("hooked", 0), ("hooked-killed", 7)):
        here = installation.with_fresh_volume(name)
        if killed_at:
            kill_at(start(here, code, "hooked", every), here, killed_at)
        output = finished(start(here, code, "hooked", every))
        assert ("resumed at iteration" in output) == bool(killed_at)
        last = bundle_folder(here.folder / "storage", json.loads(output.splitlines()[-1])["last_uri"])
        (folder,) = here.volume.glob("work/train-*")
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        ended.append((load_file(last / "model.safetensors"), history))
    (whole, lines), (resumed, lines_of_resumed) = ended
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert lines == lines_of_resumed
    trained = [line for line in lines if line["kind"] == "train"]
    assert len({line["lr"] for line in trained}) == 1, "nobody moves the schedule on"
    assert resumed["bbox_head.multi_level_conv_obj.0.bias"].tolist() == [len(trained)]
    assert set(resumed["bbox_head.multi_level_conv_reg.0.bias"].tolist()) == {0.25}
