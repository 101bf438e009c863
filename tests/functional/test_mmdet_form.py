"""Configs in mmdet's own form, as they are read: from their files, and by mmengine."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper

from sightline.errors import ConfigError
from sightline.models.config import load_config, set_epochs
from sightline.models.config_files import check_config
from sightline.models.config_form import as_ours, fit_classes
from sightline.models.shipped import config_path, shipped_digest
from sightline.steps.train.compute import on_device
from sightline.tasks.detection.fit import register
from tests.earlier_form import EARLIER
from tests.live_code import append

CODE = Path(__file__).parents[2] / "shared_volume"
CLASSES = ("cup", "pen", "key")
PIPELINE = [
    {"type": "LoadImageFromFile", "backend_args": None},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PackDetInputs"},
]


def theirs(**changed: Any) -> dict[str, Any]:
    dataset = {
        "type": "CocoDataset",
        "data_root": "/nowhere",
        "ann_file": "a.json",
        "pipeline": [dict(each) for each in PIPELINE],
    }
    return {
        "model": {"type": "RetinaNet", "bbox_head": {"num_classes": 80}},
        "train_dataloader": {"batch_size": 2, "num_workers": 3, "dataset": dataset},
        "val_dataloader": {"dataset": {**dataset, "pipeline": [dict(each) for each in PIPELINE]}},
        "train_cfg": {
            "type": "EpochBasedTrainLoop",
            "max_epochs": 12,
            "val_interval": 2,
            "dynamic_intervals": [(10, 1)],
        },
        "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}},
        **changed,
    }


def loaded(live: Path, text: str, **overrides: Any) -> dict[str, Any]:
    path = append(live, "custom/configs/loaded.py", text)
    try:
        check_config(live, "loaded", "detection", overrides)
        return load_config(path, overrides, ("cup",)).to_dict()
    finally:
        path.unlink()


SHIPPED = '_base_ = "../../configs/mask_rcnn_r18_small.py"\n'


def test_a_config_of_our_earlier_form_says_what_the_shipped_one_of_mmdets_form_says(live: Path) -> None:
    new = {"filter_cfg": None, "batch_sampler": None, "drop_last": False}
    assert loaded(live, EARLIER) | new == loaded(live, SHIPPED)


@pytest.mark.parametrize("base", [SHIPPED, EARLIER], ids=["shipped", "earlier"])
def test_keys_of_our_form_count_in_what_inherits_a_shipped_config(live: Path, base: str) -> None:
    more = """
train_batch_size = 2
max_epochs = 7
seed = 3
train_dataset_wrapper = dict(_delete_=True, type="RepeatDataset", times=2)
test_pipeline = [dict(type="LoadUprightImage"), dict(type="PackDetInputs")]
filter_cfg = dict(min_size=8)
val_begin = 4
"""
    if base == EARLIER:
        parent = append(live, "custom/configs/earlier.py", EARLIER)
        base = '_base_ = "earlier.py"\n'
    config = loaded(live, base + more)
    kept = ("train_batch_size", "num_workers", "max_epochs", "val_interval", "seed", "filter_cfg", "val_begin")
    assert [config[name] for name in kept] == [2, 1, 7, 3, 3, {"min_size": 8}, 4]
    assert config["train_dataset_wrapper"] == {"type": "RepeatDataset", "times": 2}
    assert config["train_pipeline"][3]["crop_size"] == (320, 320)
    assert [step["type"] for step in config["test_pipeline"]] == ["LoadUprightImage", "PackDetInputs"]
    if "earlier" in base:
        parent.unlink()


def test_keys_of_mmdets_form_count_in_what_inherits_a_shipped_config(live: Path) -> None:
    more = "train_dataloader = dict(batch_size=2)\ntrain_cfg = dict(max_epochs=7)\nmax_iters = 40\n"
    config = loaded(live, SHIPPED + more, **{"train_dataloader.num_workers": 0, "train_pipeline.2.scale": [64, 64]})
    assert [config[name] for name in ("train_batch_size", "num_workers", "max_epochs", "max_iters")] == [2, 0, 7, 40]
    assert config["train_pipeline"][2]["scale"] == (64, 64)
    assert "short_keys" not in config


def test_a_name_of_its_own_is_no_key_in_what_inherits_a_config_of_mmdet(live: Path) -> None:
    """`max_epochs` there is a name that train_cfg was made of."""
    config = loaded(live, '_base_ = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"\nmax_epochs = 7\n')
    assert config["max_epochs"] == 300


@pytest.mark.parametrize("base", [SHIPPED, '_base_ = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"\n'])
def test_a_new_key_that_nothing_reads_is_refused(live: Path, base: str) -> None:
    with pytest.raises(ConfigError, match="nothing reads the key 'new'"):
        loaded(live, base, **{"+new": 1})


def test_what_a_config_of_mmdets_form_says_is_kept_but_for_where_the_data_lie() -> None:
    hooks = [{"type": "EMAHook"}, {"type": "mmengine.EarlyStoppingHook", "monitor": "coco/bbox_mAP", "patience": 4}]
    values = theirs(
        custom_hooks=hooks, randomness={"seed": 7}, auto_scale_lr={"enable": True, "base_batch_size": 16}, base_lr=3
    )
    values["train_dataloader"]["batch_sampler"] = {"type": "AspectRatioBatchSampler"}
    ours = as_ours("mine.py", values)
    assert [step["type"] for step in ours["train_pipeline"]] == ["LoadUprightImage", "LoadAnnotations", "PackDetInputs"]
    assert [step["type"] for step in ours["test_pipeline"]] == ["LoadUprightImage", "PackDetInputs"]
    assert (ours["train_batch_size"], ours["num_workers"], ours["seed"]) == (2, 3, 7)
    assert (ours["max_epochs"], ours["val_interval"], ours["dynamic_intervals"]) == (12, 2, [(10, 1)])
    assert ours["custom_hooks"] == [{"type": "EMAHook"}]
    assert ours["early_stopping"] == {"patience": 4, "min_delta": 0.1}
    assert ours["batch_sampler"] == {"type": "AspectRatioBatchSampler"}
    assert ours["auto_scale_lr"]["enable"]
    assert "nowhere" not in str(ours)
    assert "base_lr" not in ours


def test_batch_norms_of_several_processes_become_those_of_one() -> None:
    values = theirs()
    values["model"]["neck"] = {"norm_cfg": {"type": "MMSyncBN", "requires_grad": True}}
    assert as_ours("mine.py", values)["model"]["neck"] == {"norm_cfg": {"type": "BN", "requires_grad": True}}


def test_iterations_and_wrappers_are_kept() -> None:
    values = theirs(train_cfg={"type": "IterBasedTrainLoop", "max_iters": 90, "val_interval": 30})
    inner = values["train_dataloader"]["dataset"]
    mixed = {"type": "MultiImageMixDataset", "dataset": inner, "pipeline": [{"type": "Mosaic"}]}
    values["train_dataloader"]["dataset"] = {"type": "RepeatDataset", "times": 3, "dataset": mixed}
    ours = as_ours("mine.py", values)
    assert (ours["max_iters"], ours["val_interval"], "max_epochs" in ours) == (90, 30, False)
    assert [each["type"] for each in ours["train_dataset_wrapper"]] == ["RepeatDataset", "MultiImageMixDataset"]
    assert len(ours["train_pipeline"]) == 3


def wants_semantic(values: dict[str, Any]) -> None:
    values["train_dataloader"]["dataset"]["pipeline"][1]["with_seg"] = True


def loads_proposals(values: dict[str, Any]) -> None:
    values["train_dataloader"]["dataset"]["pipeline"].insert(1, {"type": "LoadProposals"})


def samples_by_class(values: dict[str, Any]) -> None:
    values["train_dataloader"]["sampler"] = {"type": "ClassAwareSampler"}


def loops_otherwise(values: dict[str, Any]) -> None:
    values["train_cfg"]["type"] = "TeacherStudentValLoop"


def learns_from_a_teacher(values: dict[str, Any]) -> None:
    values["model"]["teacher_ckpt"] = "https://download.openmmlab.com/teacher.pth"


def reads_texts(values: dict[str, Any]) -> None:
    values["model"]["language_model"] = {"type": "BertModel"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (learns_from_a_teacher, "model.teacher_ckpt names the weights of a detector from which this one learns"),
        (reads_texts, "model.language_model reads texts beside each image, and dataset versions have no texts"),
        (wants_semantic, "train_pipeline.1 wants semantic segmentation"),
        (loads_proposals, "train_pipeline.1 is LoadProposals, and dataset versions have no proposals"),
        (samples_by_class, "sampler is ClassAwareSampler.*ClassBalancedDataset"),
        (loops_otherwise, "train_cfg.type is TeacherStudentValLoop"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(changed: Any, told: str) -> None:
    values = theirs()
    changed(values)
    with pytest.raises(ConfigError, match=rf"^mine\.py: .*{told}"):
        as_ours("mine.py", values)


def test_heads_follow_the_dataset_wherever_they_name_its_classes() -> None:
    model: dict[str, Any] = {
        "rpn_head": {"type": "ATSSHead", "num_classes": 1},
        "roi_head": {"bbox_head": [{"num_classes": 80, "loss_cls": {"num_classes": 80}}, {"num_classes": 80}]},
        "panoptic_head": {
            "num_things_classes": 80,
            "num_stuff_classes": 53,
            "loss_cls": {"class_weight": [1.0] * 133 + [0.1]},
        },
        "bbox_head": {"num_classes": None},
    }
    fit_classes(model, CLASSES)
    assert model["rpn_head"]["num_classes"] == 1
    assert [head["num_classes"] for head in model["roi_head"]["bbox_head"]] == [3, 3]
    assert model["roi_head"]["bbox_head"][0]["loss_cls"]["num_classes"] == 3
    assert model["panoptic_head"] == {
        "num_things_classes": 3,
        "num_stuff_classes": 0,
        "loss_cls": {"class_weight": [1.0, 1.0, 1.0, 0.1]},
    }
    assert model["bbox_head"]["num_classes"] == 3


def test_a_config_of_mmdets_package_is_read_by_name_and_its_schedule_is_stretched() -> None:
    path = config_path(CODE, "mmdet::rtmdet-ins_tiny_8xb32-300e_coco")
    config = load_config(path, {"train_dataloader.batch_size": 4, "num_workers": 0}, CLASSES)
    assert (config.model.bbox_head.num_classes, config.train_batch_size, config.num_workers) == (3, 4, 0)
    set_epochs(config, 30)
    assert config.custom_hooks[1].switch_epoch == 28
    assert (config.param_scheduler[1].begin, config.param_scheduler[1].end, config.param_scheduler[1].T_max) == (
        15,
        30,
        15,
    )
    assert config.dynamic_intervals == [(28, 1)]
    with pytest.raises(ConfigError, match="base_lr is a name within the config"):
        load_config(path, {"base_lr": 1.0}, CLASSES)


def test_a_schedule_that_so_few_epochs_leave_no_epoch_is_left_out() -> None:
    config = load_config(config_path(CODE, "mmdet::yolox_tiny_8xb8-300e_coco"), {}, CLASSES)
    set_epochs(config, 1)
    assert [(each.type, each.begin, each.end) for each in config.param_scheduler] == [
        ("mmdet.QuadraticWarmupLR", 0, 1),
        ("CosineAnnealingLR", 0, 1),
    ]


def test_on_a_cpu_mixed_precision_becomes_full_precision_and_the_rest_stays() -> None:
    path = config_path(CODE, "mmdet::mask-rcnn_r50_fpn_amp-1x_coco")
    wrapper = load_config(path, {"+optim_wrapper.clip_grad": {"max_norm": 1.0}}, CLASSES).optim_wrapper
    assert wrapper.type == "AmpOptimWrapper"
    built = build_optim_wrapper(torch.nn.Linear(2, 2), on_device(wrapper, torch.device("cpu")))
    assert type(built) is OptimWrapper
    assert (built.clip_grad_kwargs, built.get_lr()) == ({"max_norm": 1.0}, {"lr": [0.02]})


@pytest.fixture
def live(tmp_path: Path) -> Path:
    shutil.copytree(CODE / "configs", tmp_path / "configs")
    shutil.copytree(CODE / "sightline", tmp_path / "sightline", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "custom" / "configs").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('_base_ = "mmdet::rtmdet/rtmdet_tinny_8xb32-300e_coco.py"', "has no config named.*Did you mean"),
        (
            '_base_ = "../../configs/yolox_s.py"\ncustom_imports = dict(imports=["custom.nets.mine"])',
            "there is no custom/nets/mine.py",
        ),
        (
            '_base_ = "../../configs/yolox_s.py"\noptim_wrapper = dict(_delete_=True, a=dict(optimizer=dict(type="SGD")), '
            'b=dict(optimizer=dict(type="SGD")))',
            r"optim_wrapper has 2 optimizers \(a, b\)",
        ),
        ("train_dataloader = dict()\ntrain_cfg = dict(max_epochs=3)\ncustom_hook = []", "Did you mean 'custom_hooks'"),
    ],
)
def test_a_config_is_looked_at_before_anything_runs(live: Path, text: str, told: str) -> None:
    (live / "custom/configs/mine.py").write_text(text)
    with pytest.raises(ConfigError, match=told):
        check_config(live, "mine", "detection", {})


def test_a_name_of_mmdets_package_is_checked_and_names_its_files_in_the_training_key(live: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'yolox_s_8xb8-300e_coco'"):
        check_config(live, "mmdet::yolox_s_8xb8-300e_cocoo", "detection", {})
    check_config(live, "mmdet::yolox_s_8xb8-300e_coco", "detection", {})
    tiny, small = (shipped_digest(live, f"mmdet::yolox_{size}_8xb8-300e_coco") for size in ("tiny", "s"))
    assert tiny and small and tiny != small
    (live / "custom/configs/mine.py").write_text('_base_ = "mmdet::yolox/yolox_s_8xb8-300e_coco.py"')
    assert shipped_digest(live, "mine") == small
    assert shipped_digest(live, "yolox_s") == ""


def test_masks_stay_outlines_unless_an_object_has_none_and_no_object_is_dropped() -> None:
    register()  # before mmdet's masks are imported, which else lack operators for the whole process
    from mmdet.structures.mask import BitmapMasks, PolygonMasks

    from sightline.tasks.detection.modules import LoadOutlines

    outline = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0]]
    painted = {"size": [10, 10], "counts": [20, 30, 50]}

    def load(*masks: Any) -> dict[str, Any]:
        instances = [{"bbox": [2, 2, 8, 8], "bbox_label": 0, "ignore_flag": 0, "mask": mask} for mask in masks]
        return LoadOutlines(with_bbox=True, with_mask=True)(
            {"instances": instances, "img_shape": (10, 10), "ori_shape": (10, 10), "height": 10, "width": 10}
        )

    outlines, mixed = load(outline, outline), load(outline, painted)
    assert isinstance(outlines["gt_masks"], PolygonMasks)
    assert isinstance(mixed["gt_masks"], BitmapMasks)
    assert mixed["gt_masks"].areas.tolist()[1] == 30
    assert not mixed["gt_ignore_flags"].any()
    assert not outlines["gt_ignore_flags"].any()
