"""`pipeline.py local`: run the pipeline here, show how it goes, and leave last_run.json."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from components.parameters import CANDIDATE_MODELS, MODEL, PRETRAINED, TEST_IMAGES
from laptop.compiling import pipeline_of
from laptop.display import displayed
from laptop.kfp_tasks import Task, run_pipeline
from laptop.options import suit
from laptop.request import IMAGES, Request, require_sense
from laptop.smoke import is_smoke_run, outlook, publishes_as
from laptop.workspace import local_volume
from sightline.errors import SightlineError, counted
from sightline.processes.last_words import ERROR, RULE
from sightline.references import DatasetReference
from sightline.services.storage.base import replacing
from sightline.settings import read_settings
from sightline.versions import is_smoke

REPORTS = {"record": "data_report", "train": "training_report", "evaluate": "evaluation_report", "test": "test_report"}
"""Step -> the artifact that is its report."""

INSTALLATION = ("SIGHTLINE_STORAGE", "SIGHTLINE_DATABASE_URL", "SIGHTLINE_DATASET_REPO", "SIGHTLINE_VOLUME")
MOST_REASON_LINES = 15
KILLED = (
    "It ended without giving a reason, so something else probably killed it. Run the same command again: training goes on "
    "where it stopped. Its last lines:"
)
MOST_CODES = 5  # of findings, on the screen


def run_locally(workspace: Path, request: Request, in_containers: bool = False) -> int:
    """Run the chosen steps, as processes or in their images. Returns the exit status: 0, or 1 when a step failed."""
    require_sense(request, in_containers)
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    os.environ |= {"SIGHTLINE_RUN": run, "SIGHTLINE_PARENT": str(os.getpid())}
    # The file is named because sys.stdout is the log while the pipeline runs.
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    log = workspace / "logs" / f"{run}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"Sightline run {run}: {publishes_as(request.values)}, log in {_shown(log)}")
    pipeline = pipeline_of(request.steps)
    arguments = arguments_of(pipeline, request)
    with (
        log.open("w", encoding="utf-8", buffering=1) as file,
        displayed(console, log.with_suffix(".progress")) as display,
        _runner(workspace, run, request, in_containers) as runner,
    ):
        tasks = run_pipeline(runner, pipeline, arguments, _kfp_folder(workspace), file, display)
    result = _result(workspace, run, request, tasks)
    with replacing(workspace / _result_file(request)) as part:
        part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if not any(task.state == "done" for name, task in tasks.items() if name != "snapshot"):
        _forget(workspace, run)
    failed = next((task.name for task in tasks.values() if task.state == "failed"), None)
    if failed:
        reason = "\n".join(_reason(log))
        print(f"error: the step {failed} failed. Its whole log: {_shown(log)}\n{reason}", file=sys.stderr)
        return 1
    _print_result(console, workspace, result)
    console.print(f"all of this as JSON: {_shown(workspace / _result_file(request))}", soft_wrap=True)
    for line in outlook(result) if is_smoke_run(request.values) else ():
        console.print(line, soft_wrap=True)
    return 0


def _result_file(request: Request) -> str:
    return "last_smoke.json" if is_smoke_run(request.values) else "last_run.json"


def arguments_of(pipeline: Any, request: Request) -> dict[str, Any]:
    """A request's values for the parameters that a pipeline of its steps has."""
    known = pipeline.component_spec.inputs or {}
    return {name: value for name, value in suit(request.values, known, request.steps).items() if name in known}


@contextlib.contextmanager
def _runner(workspace: Path, run: str, request: Request, in_containers: bool) -> Iterator[Any]:
    from kfp import local

    if not in_containers:
        yield local.SubprocessRunner(use_venv=False)
        return
    from components.images import image
    from laptop.containers import containers

    (_kfp_folder(workspace) / "outputs").mkdir(parents=True, exist_ok=True)
    steps = {"snapshot", *request.steps}
    targets = [target for target, users in IMAGES.items() if steps & users]
    named = (TEST_IMAGES, MODEL, PRETRAINED)
    locations = [*map(request.value, named), *request.value(CANDIDATE_MODELS)]
    with containers(workspace, run, [image(target) for target in targets], locations) as runner:
        yield runner


def _kfp_folder(workspace: Path) -> Path:
    """Results are reused within one installation only: another bucket or database knows nothing of them."""
    locations = "\0".join(os.environ[name] for name in INSTALLATION)
    return workspace / "kfp" / hashlib.sha256(locations.encode()).hexdigest()[:12]


def _result(workspace: Path, run: str, request: Request, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """What last_run.json holds."""
    outputs = {name: task.outputs for name, task in tasks.items()}
    frozen = outputs.get("snapshot", {})
    dataset = _reference(outputs.get("record", {}).get("dataset"))
    model = _reference(outputs.get("evaluate", {}).get("selected_model") or outputs.get("train", {}).get("model"))
    scores = getattr(outputs.get("evaluate", {}).get("scores"), "metadata", {})
    return {
        "run": run,
        "task": model.get("task") or dataset.get("task"),
        "category": publishes_as(request.values),
        "annotation_version": frozen.get("annotation_version") or None,
        "dataset_version": dataset.get("version") or frozen.get("dataset_version") or None,
        "code_digest": frozen.get("code_digest"),
        **_told_by_record(dataset),
        "model": {"uri": model.get("uri"), "sha256": model.get("sha256")},
        "metrics": {name: value for name, value in scores.items() if name != "display_name"},
        "reports": _keep_reports(workspace, publishes_as(request.values), outputs),
        "steps": {name: {"state": task.state, "seconds": round(task.seconds, 2)} for name, task in tasks.items()},
    }


def _told_by_record(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """How often each outcome and code was found, how many images were left out, and the warnings, of record's version."""
    told: dict[str, Any] = {"findings": {}, "finding_codes": {}, "images_left_out": 0, "warnings": []}
    if not dataset:
        return told
    from sightline.services.versioning.datasets import pull_dataset

    # Whatever is wrong there, a step that failed of it has said so already.
    with contextlib.suppress(SightlineError, OSError):
        folder = pull_dataset(read_settings(), DatasetReference.from_json(dataset))
        statistics = json.loads((folder / "statistics.json").read_bytes())
        told["warnings"] = statistics["warnings"]
        split = statistics["stages"][-1]
        told["images_left_out"] = statistics["stages"][0]["images_before"] - split["images_before"]
        if whole := statistics.get("chosen_from"):
            told["images_of"] = [split["images_after"], whole]
        findings = json.loads((folder / "findings.json").read_bytes())
        for key, of in (("findings", "outcome"), ("finding_codes", "code")):
            told[key] = dict(Counter(finding[of] for finding in findings).most_common())
    return told


def _reference(artifact: Any) -> dict[str, Any]:
    return json.loads(Path(artifact.path).read_text()) if artifact else {}


def _keep_reports(workspace: Path, category: str, outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Copy the newest reports to where a person finds them."""
    kept = {}
    for step, artifact in REPORTS.items():
        if report := outputs.get(step, {}).get(artifact):
            path = workspace / "reports" / category / f"{step}.html"
            content = Path(report.path).read_bytes()
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            kept[step] = str(path)
    return kept


def _forget(workspace: Path, run: str) -> None:
    """Nothing new was made: leave no trace of a run that has none, but its log."""
    (local_volume() / "runs" / f"{run}.json").unlink(missing_ok=True)
    for folder in (_kfp_folder(workspace) / "outputs").glob("*/snapshot"):
        if len(list(folder.parent.iterdir())) == 1:
            shutil.rmtree(folder.parent)


def _reason(log: Path) -> list[str]:
    """The error that a log ends with, or its last lines."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    framed = [
        line.removeprefix(ERROR)
        for above, line, below in zip(lines, lines[1:], lines[2:], strict=False)
        if above == below == RULE and line.startswith(ERROR)
    ]
    # Code that was frozen a while ago prints tracebacks.
    raised = [line.partition(": ")[2] for line in lines if line.startswith("sightline.") and "Error: " in line]
    killed = [] if any(line.startswith("Traceback") for line in lines) else [KILLED]
    return framed[-1:] or raised[-1:] or [*killed, *lines[-MOST_REASON_LINES:]]


def _print_result(console: Console, workspace: Path, result: Mapping[str, Any]) -> None:
    metrics = result["metrics"]
    if metrics:
        from laptop.scores import scores_table, shown_scores
        from sightline.tasks.task import headlines_of

        task, title = result.get("task") or "", f"{result['category']} {result['dataset_version']}"
        console.print(scores_table(f"{title}: scores of the selected model", metrics, shown_scores(metrics, task)))
        if not is_smoke(result["category"]) and not any(metrics[name] > 0 for name in headlines_of(metrics, task)):
            console.print("no score is above 0: the model has learnt too little; train longer with --epochs")
    if result["model"]["uri"]:
        console.print(f"model: {result['model']['uri']}")
    for warning in result["warnings"]:
        console.print(f"warning: {warning}")
    if result["findings"]:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in result["findings"].items())
        total = sum(result["findings"].values())
        codes = [f"{count} {code}" for code, count in result["finding_codes"].items()]
        listed = ", ".join(codes[:MOST_CODES]) + (", …" if len(codes) > MOST_CODES else "")
        found = f"{counted(total, 'finding')} in the annotations ({outcomes})"
        console.print(f"{found}: {listed}; each is in the record report")
    if result.get("images_left_out"):
        console.print(f"images left out of the dataset: {result['images_left_out']}")
    for step, path in result["reports"].items():
        console.print(f"{step + ' report:':<17} {_shown(Path(path))}")


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
