"""`pipeline.py submit`: start a run on the cluster, with the pipeline's version and the experiment that it needs there."""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from laptop.kubeflow.access import access_of
from laptop.kubeflow.answers import Experiment, Pipeline, Run, entries, read
from laptop.kubeflow.checks import require_sound
from laptop.kubeflow.connect import Server, ServerError, connect
from laptop.kubeflow.follow import follow
from laptop.kubeflow.package import Package, arguments_of, package_of
from laptop.kubeflow.retry import description_of, retry_if_lost, warn_of_lost_pods
from laptop.kubeflow.sql import open_metadata
from laptop.smoke import is_smoke_run, publishes_as
from sightline.errors import SightlineError

HAS_FAILED = 1  # exit status
EQUALS = 1  # kfp's number for it in a filter
TAKEN = 409


def submit(options: argparse.Namespace) -> int:
    """Upload what is not there yet, start the run, and follow it when asked. Returns the exit status."""
    package = package_of(options)
    arguments = arguments_of(options, package)
    require_sound(options, package, arguments)
    server = connect(access_of(options))
    if not options.no_check:
        warn_of_lost_pods(server, options.retry, options.wait)
    body, experiment, _ = prepare(server, package, options, arguments)
    name = options.name or f"{experiment} {datetime.now(UTC):%Y-%m-%d %H:%M}"
    wanted = {**body, "display_name": name, **description_of(options.retry)}
    run_id = read(Run, server.ask("runs.run_service_create_run", run=wanted)).run_id
    if not run_id:
        raise ServerError(
            "The server accepted the run but does not say what its id is. Look for it: python pipeline.py runs"
        )
    print(f"run {run_id}: {name}, in the experiment {experiment}\n{server.link(run_id)}")
    if is_smoke_run(arguments):
        print(
            f"a smoke test: it publishes as {publishes_as(arguments)}; the real run is the same command without --smoke"
        )
    if not options.wait:
        return 0
    metadata = open_metadata(options.workspace)
    while True:
        status = follow(server, run_id, metadata)
        if status != HAS_FAILED or not options.retry or not retry_if_lost(server, run_id, metadata, options.retry):
            return status


def prepare(
    server: Server, package: Package, options: argparse.Namespace, arguments: dict[str, Any]
) -> tuple[dict[str, Any], str, str]:
    """Have version and experiment on the server. Returns what a run says of them, the experiment's name, the version's."""
    version, made = ensure_version(server, package)
    title = version.display_name
    if title == package.name:
        title += f" {package.short}"
    print(f"pipeline {package.name}, version {title}: {'uploaded' if made else 'there already'}")
    experiment = options.experiment or publishes_as(arguments) or package.name
    body = {
        "experiment_id": ensure_experiment(server, experiment),
        "pipeline_version_reference": {
            "pipeline_id": version.pipeline_id,
            "pipeline_version_id": version.pipeline_version_id,
        },
        "runtime_config": {"parameters": arguments},
    }
    return body, experiment, title


def ensure_version(server: Server, package: Package) -> tuple[Pipeline, bool]:
    """The version with these very bytes: found by its digest, else uploaded; and whether it was uploaded just now.

    A version is named by the time of its upload and its digest's beginning. The first upload makes pipeline and version at
    once, and the server names that version like the pipeline. So the digest stands in the description too.
    """
    pipeline_id = _find_pipeline(server, package.name)
    if pipeline_id is None:
        with _unless_taken():
            made = _upload(server, package, "upload_pipeline", name=package.name, **server.within)
            return _require_version(server, made.pipeline_id, package), True
        pipeline_id = _find_pipeline(server, package.name)
        if pipeline_id is None:
            raise SightlineError(
                f"The server has a pipeline {package.name} that this account may not see, probably another user's. Ask for access."
            )
    if found := _find_version(server, pipeline_id, package):
        return found, False
    with _unless_taken():
        name = f"{datetime.now(UTC):%Y-%m-%d %H:%M} {package.short}"
        made = _upload(server, package, "upload_pipeline_version", name=name, pipelineid=pipeline_id)
        return made.model_copy(update={"pipeline_id": pipeline_id}), True
    return _require_version(server, pipeline_id, package), False


@contextlib.contextmanager
def _unless_taken() -> Iterator[None]:
    """Goes on where somebody else made the same in between."""
    try:
        yield
    except ServerError as error:
        if error.status != TAKEN:
            raise


def ensure_experiment(server: Server, name: str) -> str:
    """The id of the experiment of that name, which is made when there is none; refuses one that is archived."""
    found = _find_experiment(server, name)
    if found is None:
        try:
            body = {"display_name": name, "namespace": server.namespace}
            made = server.ask("experiments.experiment_service_create_experiment", experiment=body)
            return read(Experiment, made).experiment_id
        except ServerError as error:
            found = _find_experiment(server, name) if error.status == TAKEN else None
            if found is None:
                raise
    if found.storage_state == "ARCHIVED":
        raise SightlineError(
            f"The experiment {name} is archived. Restore it in the UI, or choose another with --experiment."
        )
    return found.experiment_id


def _find_experiment(server: Server, name: str) -> Experiment | None:
    question = "experiments.experiment_service_list_experiments"
    answer = server.ask(question, filter=_named(name), namespace=server.namespace)
    return next((each for each in entries(Experiment, answer, "experiments") if each.experiment_id), None)


def _find_pipeline(server: Server, name: str) -> str | None:
    """The user's own pipeline of that name, else one that all users share."""
    for within in (server.within, {}) if server.within else ({},):
        answer = server.ask("pipelines.pipeline_service_list_pipelines", filter=_named(name), **within)
        found = entries(Pipeline, answer, "pipelines")
        if found and found[0].pipeline_id:
            return found[0].pipeline_id
    return None


def _find_version(server: Server, pipeline_id: str, package: Package) -> Pipeline | None:
    question = "pipelines.pipeline_service_list_pipeline_versions"
    for each in server.list(Pipeline, question, "pipeline_versions", pipeline_id=pipeline_id, sort_by=""):
        named = each.display_name == package.version or each.display_name.endswith(f" {package.short}")
        if named or package.version in each.description.split():
            return each.model_copy(update={"pipeline_id": pipeline_id})
    return None


def _require_version(server: Server, pipeline_id: str, package: Package) -> Pipeline:
    found = _find_version(server, pipeline_id, package)
    if found is None:
        raise SightlineError(
            f"The server accepted the pipeline {package.name} but does not list its version. Run the same command again."
        )
    return found


def _upload(server: Server, package: Package, method: str, **values: str) -> Pipeline:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{package.name}.yaml"
        path.write_bytes(package.text)
        question, description = f"pipeline_uploads.{method}", f"{package.version} of pipeline.py"
        return read(Pipeline, server.ask(question, uploadfile=str(path), description=description, **values))


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": EQUALS, "key": "display_name", "stringValue": name}]})
