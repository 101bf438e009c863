"""Configs: loaded, changed by dotted keys, fitted to a dataset's classes."""

from pathlib import Path

import pytest

from sightline.errors import ConfigError
from sightline.models.bundle import parse_config
from sightline.models.config import (
    config_from_data,
    config_text,
    load_config,
    set_epochs,
)
from sightline.tasks.detection.fit import build_model

CONFIGS = Path(__file__).resolve().parents[2] / "shared_volume" / "configs"
DEFAULT = CONFIGS / "mask_rcnn_r18_small.py"
CLASSES = ["cup", "fork", "plate"]


def load(overrides=None, classes=CLASSES):
    return load_config(DEFAULT, overrides or {}, classes)


def test_every_head_gets_as_many_classes_as_the_dataset():
    model = load().model
    assert (model.roi_head.bbox_head.num_classes, model.roi_head.mask_head.num_classes) == (3, 3)


def test_a_head_of_another_size_is_refused_by_name_and_numbers():
    with pytest.raises(ConfigError, match=r"model\.roi_head\.mask_head\.num_classes is 80.* 3 classes"):
        load({"model.roi_head.mask_head.num_classes": 80})


def test_heads_in_a_list_are_fitted_too(tmp_path):
    path = tmp_path / "cascade.py"
    path.write_text(
        f"_base_ = [{str(DEFAULT)!r}]\n"
        "model = dict(roi_head=dict(bbox_head=[dict(num_classes=None), dict(num_classes=7)], _delete_=True))\n"
    )
    with pytest.raises(ConfigError, match=r"model\.roi_head\.bbox_head\.1\.num_classes is 7"):
        load_config(path, {}, CLASSES)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("optim_wrapper.optimizer.lr", 0.5, 0.5),
        ("param_scheduler.1.end", 7, 7),
        ("test_pipeline.1.scale", [64, 64], (64, 64)),
        ("train_batch_size", 2, 2),
        # KFP gives every number in a dict as a float.
        ("train_batch_size", 2.0, 2),
        ("optim_wrapper.optimizer.lr", 1.0, 1.0),
        ("test_pipeline.1.scale", [64.0, 64.0], (64, 64)),
        ("+optim_wrapper.accumulative_counts", 4.0, 4),
        ("+optim_wrapper.accumulative_counts", 4, 4),
        ("+param_scheduler.2", {"type": "ConstantLR"}, {"type": "ConstantLR"}),
        ("+model.new", [1], [1]),
        ("+filter_cfg", {"min_size": 8}, {"min_size": 8}),
        ("optim_wrapper.optimizer", {"type": "SGD", "lr": 0.1}, {"type": "SGD", "lr": 0.1}),
        ("optim_wrapper.optimizer", {"lr": 0.1}, {"type": "AdamW", "lr": 0.1, "weight_decay": 0.05}),
    ],
)
def test_an_override_sets_its_key(key, value, expected):
    node = load({key: value})
    for part in key.removeprefix("+").split("."):
        node = node[int(part) if part.isdecimal() else part]
    assert node == expected
    assert type(node) is type(expected) or isinstance(expected, dict)
    assert str(node) == str(expected) or isinstance(expected, dict)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("optim_wraper.optimizer.lr", r"'optim_wraper'.*Did you mean 'optim_wrapper'"),
        ("optim_wrapper.optimizer.lrr", r"optim_wrapper\.optimizer has no 'lrr'.*Did you mean 'lr'.*'\+optim"),
        ("param_scheduler.9.end", r"param_scheduler is a list of 2 \(0 to 1\)"),
        ("param_scheduler.last.end", r"param_scheduler is a list"),
        ("test_pipeline.1.scale.0", r"Set test_pipeline\.1\.scale as a whole"),
        ("max_epochs.x", r"max_epochs is 30 and has nothing inside"),
        ("+nowhere.x", r"the config has no 'nowhere'"),
        ("", r"no key ''"),
    ],
)
def test_a_key_that_is_not_there_is_named_with_the_nearest(key, message):
    with pytest.raises(ConfigError, match=message):
        load({key: 1})


def test_an_unknown_key_inside_a_dict_is_named_too():
    with pytest.raises(ConfigError, match=r"optim_wrapper\.optimizer has no 'learning_rate'"):
        load({"optim_wrapper": {"optimizer": {"learning_rate": 1}}})


def test_a_missing_config_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'mask_rcnn_r18_small'"):
        load_config(CONFIGS / "mask_rcnn_r18_smal.py", {}, CLASSES)
    with pytest.raises(ConfigError, match=r"Known: .*rtmdet_ins_tiny, yolox_s"):
        load_config(CONFIGS / "zzz.py", {}, CLASSES)
    with pytest.raises(ConfigError, match="There is no config"):
        load_config(CONFIGS / "nowhere" / "x.py", {}, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(\n", "is not valid Python"),
        ("model = nothing\n", "NameError"),
        ("_base_ = ['gone.py']\n", r"does not load.*gone\.py"),
        ("max_epochs = 3\n", "does not set 'model'"),
    ],
)
def test_a_config_that_does_not_load_says_why(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        load_config(path, {}, CLASSES)
    assert "mine.py" in str(raised.value)


def test_a_part_that_does_not_exist_is_named():
    config = load({"model.backbone.type": "ResNett"})
    with pytest.raises(ConfigError, match="ResNett"):
        build_model(config)


def test_epochs_move_the_schedule_along():
    config = load()
    set_epochs(config, 4)
    assert config.max_epochs == 4
    assert config.param_scheduler[1]["end"] == config.param_scheduler[1]["T_max"] == 4
    assert config.param_scheduler[0]["end"] == 50  # iterations of warm-up


def test_a_warm_up_of_as_many_iterations_as_epochs_stays():
    config = load({"param_scheduler.0.end": 30})
    set_epochs(config, 4)
    assert config.param_scheduler[0]["end"] == 30


def test_epochs_move_milestones():
    config = load_config(CONFIGS / "mask_rcnn_swin_t.py", {}, CLASSES)
    set_epochs(config, 12)
    assert config.param_scheduler[1] == {**config.param_scheduler[1], "end": 12, "milestones": [9, 11]}


def test_no_epochs_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        set_epochs(load(), 0)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_a_resolved_config_is_plain_data_and_the_same_again(path, tmp_path):
    config = load_config(path, {}, CLASSES)
    text = config_text(config)
    assert parse_config(text, "config.py") == config.to_dict()
    assert config_text(config_from_data(parse_config(text, "config.py"))) == text
    copy = tmp_path / "resolved.py"
    copy.write_text(text)
    assert load_config(copy, {}, CLASSES).to_dict() == config.to_dict()
