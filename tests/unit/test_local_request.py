"""What `pipeline.py local` passes to a pipeline of some of the steps."""

import argparse
from pathlib import Path

import pytest
from rich.console import Console

from components.wiring import make_pipeline
from laptop.local import KILLED, Request, _print_result, _reason, arguments_of
from laptop.options import add_pipeline_options, given_values
from sightline.models.config_keys import override


def request_of(*steps: str, model: str = "", candidates: tuple[str, ...] = ()) -> Request:
    return Request(
        steps,
        {
            "category": "desk",
            "annotation_version": "",
            "recipe": {},
            "train_config": "mask_rcnn_r18_small",
            "train_overrides": {},
            "train_epochs": 0,
            "evaluate_select_by": "bbox_mAP",
            "evaluate_split": "test",
            "evaluate_candidates": list(candidates),
            "test_images": "",
            "test_score_threshold": 0.3,
            "device": "",
            "train_on_out_of_memory": "fail",
            "dataset_version": "v0.1.0",
            "test_model": model,
        },
    )


def arguments(request: Request) -> dict[str, object]:
    return arguments_of(make_pipeline(request.steps), request)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [("evaluate",), ("evaluate", "test")])
def test_the_model_of_an_omitted_train_step_is_evaluated_before_the_further_candidates(steps):
    given = arguments(request_of(*steps, model="gs://a/best", candidates=("gs://b/best",)))
    assert given["evaluate_candidates"] == ["gs://a/best", "gs://b/best"]
    assert given["dataset_version"] == "v0.1.0"


@pytest.mark.slow
def test_a_model_that_is_only_tested_is_passed_as_it_is():
    given = arguments(request_of("test", model="gs://a/best"))
    assert given["test_model"] == "gs://a/best"
    assert "evaluate_candidates" not in given


def test_an_omitted_step_takes_its_own_options_with_it():
    assert set(arguments(request_of("record"))) == {"category", "annotation_version", "recipe"}
    assert set(arguments(request_of("train"))) == {
        "category", "dataset_version", "train_config", "train_overrides", "train_epochs", "evaluate_select_by", "device",
        "train_on_out_of_memory",
    }  # fmt: skip


def test_what_to_do_about_memory_reaches_the_training():
    assert arguments(request_of("train"))["train_on_out_of_memory"] == "fail"


@pytest.mark.parametrize(("score", "hinted"), [(0.0, True), (0.001, False)])
def test_scores_that_are_all_0_point_to_longer_training(tmp_path: Path, capsys, score, hinted):
    result = {
        "category": "desk", "dataset_version": "v0.1.0", "task": "detection", "warnings": [], "findings": {}, "reports": {},
        "metrics": {"bbox_mAP": 0.0, "bbox_mAP_50": score}, "model": {"uri": None},
    }  # fmt: skip
    _print_result(Console(), tmp_path, result)
    assert ("train longer with --epochs" in capsys.readouterr().out) is hinted


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("epoch 3/14\n", [KILLED, "epoch 3/14"]),
        ("epoch 3/14\nTraceback (most recent call last):\nKeyError: 1\n", ["epoch 3/14", "Traceback (most recent call last):", "KeyError: 1"]),
        ("Traceback (most recent call last):\nsightline.errors.SightlineError: No space.\n", ["No space."]),
    ],
    ids=["killed", "a mistake of ours", "a sentence"],
)  # fmt: skip
def test_a_failed_step_is_told_by_what_its_log_ends_with(tmp_path, log, told):
    (tmp_path / "run.log").write_text(log)
    assert _reason(tmp_path / "run.log") == told


def test_null_is_set_although_kfp_cannot_hand_it_on() -> None:
    parser = argparse.ArgumentParser()
    add_pipeline_options(parser)
    options = parser.parse_args(["--category", "desk", "--set", "model.init_cfg=null", "--set", "+new={'a': None}"])
    given = given_values(options)["train_overrides"]
    assert given == {"model.init_cfg": "null", "+new": {"a": "null"}}
    values = {"model": {"init_cfg": {"type": "Pretrained"}}}
    for key, value in given.items():
        override(values, key, value)
    assert values == {"model": {"init_cfg": None}, "new": {"a": None}}


def test_sizes_are_tuples_in_steps_that_the_config_did_not_have() -> None:
    """mmcv's Resize refuses lists, and JSON has nothing else."""
    values = {"train_pipeline": [{"type": "Load"}, {"type": "RandomFlip", "prob": 0.5}], "custom_hooks": []}
    override(values, "train_pipeline.1", {"type": "Resize", "scale": [160.0, 96.0], "prob": [0.5, 0.25]})
    override(values, "+train_pipeline.2", {"type": "RandomChoiceResize", "scales": [[160.0, 96.0], [64.0, 64.0]]})
    override(values, "+custom_hooks.0", {"out": [1.0, 2.0], "switch_pipeline": [{"size": [64.0, 64.0]}]})
    assert values["train_pipeline"][1:] == [
        {"type": "Resize", "scale": (160, 96), "prob": [0.5, 0.25]},
        {"type": "RandomChoiceResize", "scales": [(160, 96), (64, 64)]},
    ]
    assert values["custom_hooks"] == [{"out": [1, 2], "switch_pipeline": [{"size": (64, 64)}]}]
