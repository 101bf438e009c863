"""The one door from outside the volume: the compiled pipeline, the manifests' jobs and Katib's trials import this alone.

A schedule keeps its YAML for months while `sync` brings new code every day. So a function here takes keyword arguments with
defaults, and the number of the interface that its caller was written for. What lies behind the door may move.

    python -m sightline.entry migrate       bring the database's tables to this code's form
    python -m sightline.entry trial …       one trial of a hyperparameter search

A step's release holds this file and what its own function here imports, so what is imported above the functions is what
every step uses. Their artifacts are KFP's: references to what a step made, and its report.
"""

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from sightline.errors import SightlineError
from sightline.processes.last_words import end_framed
from sightline.references import write_artifact, write_reference

INTERFACE = 1  # what this code speaks; goes up when a caller must say something new, or something old in another way
OLDEST = 1  # the oldest interface that is still served
OTHERS, OTHERS_WRITE = 0o007, 0o002  # bits of a umask
_OLDER_PIPELINE = (
    "the pipeline is older than the code. Compile it again: python pipeline.py submit, or for a schedule: "
    "python pipeline.py schedule --replace"
)


class InterfaceError(SightlineError):
    """The caller and this code do not understand each other; one of them is too old."""


def snapshot(*, interface: Any = None, **arguments: Any) -> Any:
    """Freeze what a run uses; see `sightline.steps.snapshot.start.start_run`."""
    from sightline.steps.snapshot.start import start_run

    return _call(start_run, interface, arguments)


def record(*, interface: Any = None, dataset: Any = None, data_report: Any = None, **arguments: Any) -> Any:
    """Make a dataset version, to which the artifact `dataset` becomes a reference; see `sightline.steps.record.record.record_dataset`."""
    from sightline.steps.record.record import record_dataset

    recorded = _call(record_dataset, interface, arguments, dataset=dataset, data_report=data_report)
    write_reference(dataset, recorded.dataset.to_json())
    write_artifact(data_report, recorded.report)
    return recorded


def train(*, interface: Any = None, model: Any = None, training_report: Any = None, **arguments: Any) -> Any:
    """Fit a model, to whose best bundle the artifact `model` becomes a reference; see `sightline.steps.train.start.train_model`."""
    from sightline.steps.train.start import train_model

    trained = _call(train_model, interface, arguments, model=model, training_report=training_report)
    write_reference(model, trained.model.to_json())
    write_artifact(training_report, trained.report)
    return trained


def evaluate(
    *,
    interface: Any = None,
    selected_model: Any = None,
    scores: Any = None,
    confusion_matrix: Any = None,
    evaluation_report: Any = None,
    **arguments: Any,
) -> Any:
    """Score candidates and select one; see `sightline.steps.evaluate.start.evaluate_models`.

    The artifact `selected_model` becomes a reference to the selected bundle, `scores` are KFP's metrics and
    `confusion_matrix` its classification metrics.
    """
    from sightline.steps.evaluate.start import evaluate_models

    artifacts = {"selected_model": selected_model, "scores": scores, "confusion_matrix": confusion_matrix}
    evaluated = _call(evaluate_models, interface, arguments, **artifacts, evaluation_report=evaluation_report)
    write_reference(selected_model, evaluated.selected.to_json())
    for name, value in evaluated.headline.items():
        scores.log_metric(name, value)
    confusion_matrix.log_confusion_matrix(list(evaluated.labels), evaluated.confusion)
    # The UI shows an artifact's file, and the local runner reuses no result whose artifact has none.
    for metrics in (scores, confusion_matrix):
        write_artifact(metrics, json.dumps(metrics.metadata))
    write_artifact(evaluation_report, evaluated.report)
    return evaluated


def test(*, interface: Any = None, predictions: Any = None, test_report: Any = None, **arguments: Any) -> Any:
    """Try the selected model on images; see `sightline.steps.testing.start.test_model`.

    The artifact `predictions` becomes a reference to drawn images and predictions.
    """
    from sightline.steps.testing.start import test_model

    tested = _call(test_model, interface, arguments, predictions=predictions, test_report=test_report)
    write_reference(predictions, tested.reference)
    write_artifact(test_report, tested.report)
    return tested


def migrate(arguments: list[str]) -> int:
    """Bring the configured database's tables to this code's form; takes no arguments. What goes wrong is one line in the log."""
    if arguments:
        print(f"usage: python -m sightline.entry migrate (without {' '.join(arguments)})", file=sys.stderr)
        return 2
    import logging

    from sightline.services.database.connection import connect
    from sightline.settings import read_settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        database = connect(read_settings().database_url.get_secret_value())
        database.migrate()
    except SightlineError as error:
        logging.error("%s", error)
        return 1
    logging.info("%s is up to date", database.name)
    return 0


def trial(arguments: list[str]) -> int:
    """Train one model and print its scores as Katib reads them."""
    from sightline.steps.train.trial import main

    return main(arguments)


def _call(work: Callable[..., Any], interface: Any, arguments: Mapping[str, Any], **artifacts: Any) -> Any:
    """Call a step's function with its arguments; the artifacts are those that the caller must hand over for what it leaves.

    Raises:
        InterfaceError: the caller is of a number that is not served or of none, names an argument that this code does not
            have, or none that it needs.
    """
    end_framed()
    parameters = inspect.signature(work).parameters
    number = _whole(interface)
    unknown = sorted(arguments.keys() - parameters.keys())
    if number > INTERFACE or unknown:
        what = f"speaks interface {number}" if number > INTERFACE else f"gives {', '.join(unknown)}"
        raise InterfaceError(
            f"The pipeline {what}, which the helper code on the volume does not know (interface {INTERFACE}): the code is "
            "older than the pipeline. Bring it up to date: python pipeline.py sync"
        )
    if number < OLDEST:
        raise InterfaceError(
            f"The pipeline speaks interface {number}, which the helper code on the volume no longer serves (interfaces "
            f"{OLDEST} to {INTERFACE}): {_OLDER_PIPELINE}"
        )
    needed = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    given = {name for name, artifact in artifacts.items() if artifact is not None} | arguments.keys()
    if missing := [name for name in (*needed, *artifacts) if name not in given]:
        raise InterfaceError(
            f"The pipeline gives no {' and no '.join(missing)}, which the helper code on the volume needs: {_OLDER_PIPELINE}"
        )
    # What a step writes is its user's and group's, where everybody could write to it otherwise: KFP starts steps with umask 0.
    before = os.umask(OTHERS)
    os.umask(before if before & OTHERS_WRITE else before | OTHERS)
    return work(**arguments)


def _whole(interface: Any) -> int:
    """A caller's interface as a number, which a pipeline may hand on as text or as a float."""
    try:
        if isinstance(interface, bool) or int(interface) != float(interface):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InterfaceError(
            f"The pipeline says {interface!r} where a whole number must say which interface it speaks (the helper code on "
            f"the volume: {OLDEST} to {INTERFACE}): {_OLDER_PIPELINE}"
        ) from None
    return int(interface)


JOBS = {"migrate": migrate, "trial": trial}


def main(arguments: list[str]) -> int:
    """Run a job: its name, then its own arguments."""
    if not arguments or arguments[0] not in JOBS:
        print(f"usage: python -m sightline.entry {'|'.join(JOBS)} …", file=sys.stderr)
        return 2
    end_framed()
    return JOBS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
