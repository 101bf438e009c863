"""What a run needs on the server: the pipeline's version and the experiment, each made once and then found again."""

import json
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from laptop.kubeflow.answers import Experiment, Pipeline, entries, read, read_all
from laptop.kubeflow.connect import Server, ServerError
from laptop.kubeflow.package import Package, write_package
from sightline.errors import SightlineError

EQUALS = 1  # kfp's number for it in a filter
TAKEN = 409


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a pipeline on the server; `made` says whether it was uploaded just now."""

    pipeline_id: str
    id: str
    name: str
    made: bool
    title: str
    """What to call it: its name, with its digest's beginning where the server named it like the pipeline."""

    def reference(self) -> dict[str, str]:
        """How a run names it."""
        return {"pipeline_id": self.pipeline_id, "pipeline_version_id": self.id}


def ensure_version(server: Server, package: Package) -> Version:
    """The version with these very bytes: found by its digest, else uploaded.

    A version is named by the time of its upload and its digest's beginning. The first upload makes pipeline and version at
    once, and the server names that version like the pipeline. So the digest stands in the description too.
    """
    pipeline_id = _find_pipeline(server, package.name)
    if pipeline_id is None:
        try:
            pipeline_id = _upload(server, package, "upload_pipeline", name=package.name, **server.within).pipeline_id
            return _require_version(server, pipeline_id, package, made=True)
        except ServerError as error:
            if error.status != TAKEN:
                raise
        # Somebody else made it in between.
        pipeline_id = _find_pipeline(server, package.name)
        if pipeline_id is None:
            raise SightlineError(
                f"The server has a pipeline {package.name} that we may not see, likely another user's. Ask for access."
            )
    found = _find_version(server, pipeline_id, package)
    if found is not None:
        return found
    try:
        name = f"{datetime.now(UTC):%Y-%m-%d %H:%M} {package.short}"
        made = _upload(server, package, "upload_pipeline_version", name=name, pipelineid=pipeline_id)
        return _version(pipeline_id, made, package, made=True)
    except ServerError as error:
        if error.status != TAKEN:
            raise
    return _require_version(server, pipeline_id, package, made=False)


def ensure_experiment(server: Server, name: str) -> str:
    """The id of the experiment of that name, which is made when there is none.

    Raises:
        SightlineError: it is archived.
    """
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
            f"The experiment {name} is archived. Restore it in the UI, or name another with --experiment."
        )
    return found.experiment_id


def _find_experiment(server: Server, name: str) -> Experiment | None:
    answer = server.ask(
        "experiments.experiment_service_list_experiments", filter=_named(name), namespace=server.namespace
    )
    found = read_all(Experiment, entries(answer, "experiments"))
    return next((each for each in found if each.experiment_id), None)


def _find_pipeline(server: Server, name: str) -> str | None:
    """The user's own pipeline of that name, else one that all users share."""
    for within in (server.within, {}) if server.within else ({},):
        answer = server.ask("pipelines.pipeline_service_list_pipelines", filter=_named(name), **within)
        found = read_all(Pipeline, entries(answer, "pipelines"))
        if found and found[0].pipeline_id:
            return found[0].pipeline_id
    return None


def _find_version(server: Server, pipeline_id: str, package: Package) -> Version | None:
    versions = server.list(
        "pipelines.pipeline_service_list_pipeline_versions",
        "pipeline_versions",
        pipeline_id=pipeline_id,
        sort_by="",
    )
    for each in read_all(Pipeline, versions):
        named = each.display_name == package.version or each.display_name.endswith(f" {package.short}")
        if named or package.version in each.description.split():
            return _version(pipeline_id, each, package, made=False)
    return None


def _version(pipeline_id: str, said: Pipeline, package: Package, made: bool) -> Version:
    name = said.display_name
    title = f"{name} {package.short}" if name == package.name else name
    return Version(pipeline_id, said.pipeline_version_id, name, made, title)


def _require_version(server: Server, pipeline_id: str, package: Package, made: bool) -> Version:
    found = _find_version(server, pipeline_id, package)
    if found is None:
        raise SightlineError(
            f"The server took the pipeline {package.name} but does not list its version. Run the same command again."
        )
    return replace(found, made=made)


def _upload(server: Server, package: Package, method: str, **values: str) -> Pipeline:
    with tempfile.TemporaryDirectory() as folder:
        path = write_package(package, Path(folder))
        made = server.ask(
            f"pipeline_uploads.{method}",
            uploadfile=str(path),
            description=f"{package.version} of pipeline.py",
            **values,
        )
    return read(Pipeline, made)


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": EQUALS, "key": "display_name", "stringValue": name}]})
