"""One trial of a hyperparameter search: trains a model as the train step does, and prints its scores as Katib reads them."""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import sightline
from sightline.errors import SightlineError
from sightline.settings import settings
from sightline.snapshot import freeze

STEP = "train"


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m sightline.trial --category plates --config mask_rcnn_swin_small --set optim_wrapper.optimizer.lr=0.001`."""
    options = _parser().parse_args(arguments)
    try:
        scores = run_trial(
            options.category,
            options.dataset_version,
            options.config,
            dict(options.set),
            options.epochs,
            options.select_by,
        )
    except SightlineError as error:
        print(f"trial failed: {error}", file=sys.stderr)
        return 1
    print(metric_lines(scores), flush=True)
    return 0


def run_trial(
    category: str, dataset_version: str, config: str, overrides: Mapping[str, Any], epochs: int, select_by: str
) -> dict[str, Any]:
    """Train one model from a frozen release of the live code; returns its best validation.

    Args:
        category: what the dataset is of.
        dataset_version: empty for the newest.
        config: name of a config in the live code's configs.
        overrides: dotted config keys and values that replace the config's.
        epochs: training length; 0 for the config's own.
        select_by: the validation metric that decides which epoch is best.

    Raises:
        SightlineError: the code, the config, an override or the dataset cannot be used.
    """
    place = settings()
    release = freeze(place.volume, config, category, (STEP,)).releases[STEP]
    # A trial lasts hours, and the live code may change meanwhile: what is imported from here on is the release's.
    sys.path.insert(0, str(release))
    sightline.__path__.insert(0, str(release / "sightline"))
    from sightline.datasets import find_dataset
    from sightline.train import train_model

    dataset = find_dataset(place, category, dataset_version)
    trained = train_model(release, dataset, config, overrides, epochs, select_by)
    return best_validation(_history(trained.model.uri), select_by)


def best_validation(history: Sequence[Mapping[str, Any]], select_by: str) -> dict[str, Any]:
    """The validation whose metric is the highest; of equal ones the first.

    Raises:
        SightlineError: nothing was validated.
    """
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


def _history(model_uri: str) -> list[dict[str, Any]]:
    """What the training left beside its bundles."""
    from sightline.storage import open_storage

    log = open_storage(model_uri.rpartition("/")[0]).read_bytes("logs/history.jsonl")
    return [json.loads(line) for line in log.splitlines()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sightline.trial", description=__doc__)
    parser.add_argument("--category", required=True, help="what the dataset is of")
    parser.add_argument("--dataset-version", default="", help="default: the newest")
    parser.add_argument("--config", required=True, help="name of a config in configs/")
    parser.add_argument("--epochs", type=int, default=0, help="default: the config's own")
    parser.add_argument(
        "--select-by", default="bbox_mAP", help="the validation metric that decides which epoch is best"
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


if __name__ == "__main__":
    sys.exit(main())
