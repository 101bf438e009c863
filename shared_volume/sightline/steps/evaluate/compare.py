"""Evaluation itself: candidates in, scores of each and the selected one out."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError, nearest
from sightline.images.files import read_image
from sightline.models.store import fetch_bundle, store_bundle, write_bundle_facts
from sightline.processes.devices import choose_device
from sightline.processes.progress import Progress
from sightline.references import DatasetReference, ModelReference, lineage_of, task_of
from sightline.services.database.scores import ModelKind
from sightline.services.runs.running_step import RunningStep, open_step, results_prefix
from sightline.services.storage.access import open_storage
from sightline.services.versioning.datasets import pull_dataset
from sightline.services.versioning.shards import SPLITS
from sightline.settings import Settings, read_settings
from sightline.steps.evaluate.report import Candidate, Scored, render_evaluation_report
from sightline.steps.evaluate.request import Evaluated, EvaluationRequest
from sightline.tasks.metrics import Scorer
from sightline.tasks.task import Task

log = logging.getLogger(__name__)

Truth = dict[str, Any]


def evaluate(request: EvaluationRequest) -> Evaluated:
    """Evaluate as `evaluate_models` was asked to, in a process that may be killed."""
    settings, dataset = read_settings(), request.dataset
    with open_step(settings, "evaluate", request.code, dataset.category, watched=True) as step:
        dataset_dir = pull_dataset(settings, dataset)
        truth = _truth(dataset_dir, request.split, dataset)
        candidates = _candidates(settings, request)
        for candidate in candidates:
            _require_classes(candidate, truth, dataset)
        score = Scorer(Task(dataset.task), request.metrics, request.select_by)
        scored = _score_all(score, candidates, truth, dataset_dir, str(choose_device(request.device)))
        best = _select(scored, request.select_by)
        _require_sense(best, request.select_by, score.task, truth)
        return _deliver(step, request, dataset_dir, truth, scored, best)


def _truth(dataset_dir: Path, split: str, dataset: DatasetReference) -> Truth:
    if split not in SPLITS:
        raise SightlineError(f"There is no split {split!r}.{nearest(split, SPLITS)}")
    truth = json.loads((dataset_dir / f"{split}.json").read_text())
    if not truth["images"]:
        raise SightlineError(
            f"The split {split} of {dataset.category} {dataset.version} has no images. Evaluate on another split, "
            "or give it a share in the category's recipe."
        )
    return truth


def _candidates(settings: Settings, request: EvaluationRequest) -> list[Candidate]:
    named: list[tuple[str, ModelKind, str, str]] = []
    if trained := request.trained:
        named.append(("best", "best", trained.uri, trained.sha256))
        if trained.last_uri:
            named.append(("last", "last", trained.last_uri, trained.last_sha256 or ""))
    named += [(f"given {number}", "given", uri, "") for number, uri in enumerate(request.uris, start=1)]
    if not named:
        raise SightlineError("There is no model to evaluate. Train one, or give a bundle's URI as a candidate.")
    return [Candidate(name, kind, uri, *fetch_bundle(settings, uri, sha256)) for name, kind, uri, sha256 in named]


def _require_classes(candidate: Candidate, truth: Mapping[str, Any], dataset: DatasetReference) -> None:
    task = task_of(candidate.bundle.facts)
    if task != dataset.task:
        raise SightlineError(
            f"The model {candidate.uri} is for the task {task}; {dataset.category} {dataset.version} is for {dataset.task}. "
            "Compare models of one task only."
        )
    classes = tuple(category["name"] for category in truth["categories"])
    if candidate.bundle.classes != classes:
        raise SightlineError(
            f"The model {candidate.uri} knows the classes {', '.join(candidate.bundle.classes)}; {dataset.category} "
            f"{dataset.version} has {', '.join(classes)}. Compare models of one dataset version only."
        )


def _score_all(
    score: Scorer, candidates: Sequence[Candidate], truth: Truth, dataset_dir: Path, device: str
) -> list[Scored]:
    task = score.task
    scored: dict[str, Scored] = {}  # by the digest of the weights: best and last are often the same epoch
    progress = Progress(len({candidate.weights for candidate in candidates}) * len(truth["images"]))
    done = 0
    for candidate in candidates:
        if candidate.weights in scored:
            continue
        predictor = task.predict.load_predictor(candidate.folder, device, candidate.bundle.sha256)
        results: list[dict[str, Any]] = []
        for image in truth["images"]:
            results += predictor.results(read_image(dataset_dir / "images" / image["file_name"]), image["id"])
            done += 1
            progress.report(done)
        scores = score(truth, results, predictor.outputs)
        scored[candidate.weights] = Scored(candidate, results, scores)
        shown = [f"{name} {scores.values[name]:.4f}" for name in task.facts.SHORTEST if name in scores.values]
        log.info("%s: %s", candidate.name, ", ".join(shown))
    return [replace(scored[candidate.weights], candidate=candidate) for candidate in candidates]


def _select(scored: Sequence[Scored], select_by: str) -> Scored:
    known = scored[0].scores.values
    if select_by not in known:
        raise SightlineError(f"There is no metric {select_by!r} to select by.{nearest(select_by, known)}")

    def value(item: Scored) -> float:
        number = item.scores.values.get(select_by, math.nan)
        return -math.inf if math.isnan(number) else number

    return max(scored, key=value)


def _require_sense(best: Scored, select_by: str, task: Task, truth: Mapping[str, Any]) -> None:
    """A task's own number is undefined where a split lacks what it measures; a metric of somebody's own must say something."""
    if math.isfinite(best.scores.values[select_by]) or select_by in task.scoring.score(truth, []).values:
        return
    raise SightlineError(
        f"{select_by} is {best.scores.values[select_by]} for the best candidate, so nothing can be selected by it. Correct the "
        "metric, or select by another."
    )


def _deliver(
    step: RunningStep, request: EvaluationRequest, dataset_dir: Path, truth: Truth, scored: list[Scored], best: Scored
) -> Evaluated:
    """Upload the selected bundle, the predictions and the report, and write every value's row."""
    dataset, select_by, chosen = request.dataset, request.select_by, best.candidate
    sha256 = chosen.bundle.sha256
    storage = open_storage(read_settings().storage)
    prefix = f"{results_prefix(dataset.category, dataset.version, step.run)}/evaluate"
    uri = store_bundle(storage, chosen.folder, sha256)
    reference = {"candidate": chosen.name, "select_by": select_by, "code": request.code, "run": step.run}
    write_bundle_facts(storage, f"{prefix}/selected", sha256, reference)
    named = {f"-{item.candidate.name.replace(' ', '-')}": item for item in scored}
    for ending, item in (named | {"": best}).items():
        storage.write_bytes(f"{prefix}/predictions{ending}.json", json.dumps(item.results).encode())
    _write_rows(step, request, scored, best)
    descent = lineage_of(chosen.bundle.facts)
    step.write_model("selected", uri, sha256, dataset, chosen.config, descent)
    task = Task(dataset.task)
    confusion = task.report.confusion(truth, best.results)
    facts = {
        "task": dataset.task,
        "category": dataset.category,
        "dataset version": dataset.version,
        "split": request.split,
        "selected": f"{chosen.name} (best {select_by})",
        "model": sha256[:12],
        "run": step.run,
        "code": request.code,
    }
    report = render_evaluation_report(task, dataset_dir, request.split, scored, best, confusion, facts, select_by)
    storage.write_bytes(f"{prefix}/report.html", report.encode())
    selected = ModelReference(
        uri=uri,
        sha256=sha256,
        category=dataset.category,
        dataset_version=dataset.version,
        config=chosen.config,
        metric_name=select_by,
        metric_value=best.scores.values[select_by],
        task=dataset.task,
        **descent,
    )
    return Evaluated(selected, _finite(best.scores.values), confusion.labels, confusion.matrix.tolist(), report)


def _write_rows(step: RunningStep, request: EvaluationRequest, scored: Sequence[Scored], best: Scored) -> None:
    # Best and last are one model where they are the same epoch.
    for item in {each.candidate.uri: each for each in (*scored, best)}.values():
        dataset, candidate, scores = request.dataset, item.candidate, item.scores
        bundle = candidate.bundle
        descent = lineage_of(bundle.facts)
        model = step.write_model(candidate.kind, candidate.uri, bundle.sha256, dataset, candidate.config, descent)
        step.write_evaluation(model, dataset, request.split, scores.values, scores.per_class, selected=item is best)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
