"""Options that several commands share, and how their texts become values."""

import argparse
import json
from collections.abc import Sequence

STEPS = ("snapshot", "record", "train", "evaluate", "test")
EXAMPLE_OVERRIDE = "optim_wrapper.optimizer.lr=0.002"
PARAMETERS = {
    "category": "category",
    "annotation_version": "annotation_version",
    "config": "config",
    "epochs": "epochs",
    "select_by": "select_by",
    "split": "evaluation_split",
    "candidate": "candidate_models",
    "images": "test_images",
    "score_threshold": "score_threshold",
    "device": "device",
    "on_out_of_memory": "on_out_of_memory",
    "dataset_version": "dataset_version",
    "model": "model",
}
"""Option -> the parameter of the pipeline that takes it as it is."""


def add_pipeline_options(parser: argparse.ArgumentParser, category_required: bool = True) -> None:
    """The options that are parameters of the pipeline, whole or in part."""
    parser.add_argument("--category", required=category_required, help="what to train on, like desk")
    parser.add_argument("--annotation-version", default="", metavar="V", help="default: the newest")
    parser.add_argument(
        "--group-by",
        metavar="PATTERN",
        help="images in whose names this regular expression captures the same share a split, like '^(.+)_frame'",
    )
    parser.add_argument("--stratify", action="store_true", help="keep rare classes in every split where counts allow")
    parser.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the category's recipe, like seed=3 or near_duplicates=null",
    )
    parser.add_argument("--config", default="mask_rcnn_r18_small", help="a config in shared_volume/configs")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the config, like optim_wrapper.optimizer.lr=0.002; +KEY=VALUE adds one",
    )
    parser.add_argument("--epochs", type=positive, default=0, help="training length (default: the config's)")
    parser.add_argument("--select-by", default="bbox_mAP", metavar="METRIC", help="what the best model is best at")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="what evaluate scores on")
    parser.add_argument(
        "--candidate", action="append", default=[], metavar="URI", help="a further model bundle for evaluate to compare"
    )
    parser.add_argument("--images", default="", metavar="PLACE", help="test on this folder or gs:// prefix instead")
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, metavar="S", help="what test draws (default: 0.3)"
    )
    parser.add_argument("--device", default="", help="cpu, cuda, … (default: a GPU when there is one)")
    parser.add_argument(
        "--on-out-of-memory",
        default="shrink",
        choices=("shrink", "fail"),
        help="training goes on with smaller parts of each batch (default), or fails",
    )
    parser.add_argument("--dataset-version", default="", metavar="V", help="when record is left out")
    parser.add_argument("--model", default="", metavar="URI", help="a model bundle, when train is left out")


def recipe_of(options: argparse.Namespace) -> dict[str, object]:
    """What the options say instead of the category's recipe file."""
    values = pairs_of("--recipe", options.recipe or (), "seed=3")
    if options.group_by is not None:
        values["group_by"] = options.group_by
    if options.stratify:
        values["stratify"] = True
    return {key: _without_null(value) for key, value in values.items()}


def _without_null(value: object) -> object:
    """KFP cannot carry null inside a dictionary; the library knows the word."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    return "null" if value is None else value


def pairs_of(option: str, pairs: Sequence[str], example: str) -> dict[str, object]:
    from sightline.errors import SightlineError

    values: dict[str, object] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise SightlineError(f"{option} {pair!r} is not KEY=VALUE. Write it like {option} {example}")
        values[key] = value_of(value)
    return values


def value_of(text: str) -> object:
    """Numbers, true/false/null, lists and objects as JSON or Python writes them; anything else is a text."""
    import ast

    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def steps(text: str) -> tuple[str, ...]:
    chosen = [step.strip() for step in text.split(",") if step.strip()]
    unknown = [step for step in chosen if step not in STEPS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(STEPS)}")
    return tuple(chosen)
