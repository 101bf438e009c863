"""One trial of a hyperparameter search: trains a model as the train step does, and prints its scores as Katib reads them."""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.errors import SightlineError
from sightline.models.config_files import check_config
from sightline.models.weights.chosen import bring_weights, find_weights
from sightline.references import DETECTION
from sightline.services.runs.config_chains import config_task
from sightline.services.runs.freeze import freeze
from sightline.services.runs.running_step import UNNAMED, results_prefix
from sightline.services.storage.access import open_storage
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import read_settings
from sightline.steps.train.start import ANY, HALF, train_model
from sightline.tasks.metrics import require_selecting, selecting_modules
from sightline.tasks.task import part_names

STEP = "trial"


def main(arguments: Sequence[str]) -> int:
    """`python -m sightline.entry trial --category plates --config mask_rcnn_swin_small --set optim_wrapper.optimizer.lr=0.001`.

    A trial lasts hours, and the live code may change meanwhile: it freezes the code and starts again from the release.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.release is None:
            _start_from_release(options, arguments)
        scores = run_trial(options)
    except SightlineError as error:
        print(f"trial failed: {error}", file=sys.stderr)
        return 1
    print(metric_lines(scores), flush=True)
    return 0


def _start_from_release(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    live = (read_settings().volume / "code").resolve()
    task = config_task(live, options.config) or DETECTION
    check_config(live, options.config, task, dict(options.set))
    require_selecting(live, task, options.select_by)
    parts = {STEP: [*part_names(task, STEP), *selecting_modules(task, options.select_by)]}
    if weights := bring_weights(
        find_weights(live, options.config, dict(options.set), options.pretrained), read_settings()
    ):
        arguments = [f"--weights={weights.to_text()}", *arguments]
    release = freeze(read_settings().volume, options.config, options.category, (STEP,), parts).releases[STEP]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(release), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "sightline.entry", STEP, f"--release={release}", *arguments]
    os.execv(sys.executable, command)  # as the same process: whoever watches it, Katib or a shell, sees no other


def run_trial(options: argparse.Namespace) -> dict[str, Any]:
    """Train one model from a frozen release; returns its best validation."""
    settings = read_settings()
    dataset = find_dataset(settings, options.category, options.dataset_version).to_text()
    asked = options.config, dict(options.set), options.epochs, options.select_by
    begins = {"weights": options.weights, "pretrained_fit": options.pretrained_fit}
    model = train_model(options.release, dataset, *asked, **begins).model
    prefix = results_prefix(model.category, model.dataset_version, settings.run or UNNAMED)
    log = open_storage(settings.storage).read_bytes(f"{prefix}/train/logs/history.jsonl")
    history = [json.loads(line) for line in log.splitlines()]
    return best_validation(history, options.select_by or str(model.metric_name))


def best_validation(history: Sequence[Mapping[str, Any]], select_by: str) -> dict[str, Any]:
    """The validation whose metric is the highest; of equal ones the first. That nothing was validated is an error."""
    validations = [dict(line) for line in history if line["kind"] == "val" and line.get(select_by) is not None]
    if not validations:
        raise SightlineError(
            f"No epoch was validated by {select_by}: the dataset's validation split is empty, or val_interval is beyond "
            "the last epoch. A trial without a score is of no use to a search."
        )
    return max(validations, key=lambda line: line[select_by])


def metric_lines(scores: Mapping[str, Any]) -> str:
    """`name=value`, one a line; numbers that are not finite are left out, since the collector's pattern knows none."""
    return "\n".join(
        f"{name}={value!r}" for name, value in scores.items() if isinstance(value, float) and math.isfinite(value)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sightline.entry trial", description=__doc__)
    parser.add_argument("--release", help=argparse.SUPPRESS)
    parser.add_argument("--weights", default="", help=argparse.SUPPRESS)  # which the first process fetched
    parser.add_argument("--category", required=True, help="what the dataset is of")
    parser.add_argument("--dataset-version", default="", help="default: the newest")
    parser.add_argument("--config", required=True, help="name of a config in configs/")
    parser.add_argument("--epochs", type=int, default=0, help="default: the config's own")
    parser.add_argument("--pretrained", default="", help="trained weights to begin from, as docs/weights.md names them")
    parser.add_argument(
        "--pretrained-fit", default=HALF, choices=(HALF, ANY), help="how much of the model they must fit at least"
    )
    parser.add_argument(
        "--select-by", default="", help="the validation metric that decides which epoch is best (default: the task's)"
    )
    parser.add_argument(
        "--set", action="append", default=[], type=_setting, metavar="KEY=VALUE", help="a config value; may be repeated"
    )
    return parser


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
