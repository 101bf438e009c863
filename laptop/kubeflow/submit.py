"""`pipeline.py submit`: start a run on the cluster."""

import argparse
from datetime import UTC, datetime
from typing import Any

from components.parameters import CATEGORY
from laptop.kubeflow.access import access_of
from laptop.kubeflow.answers import Run, read
from laptop.kubeflow.checks import require_sound
from laptop.kubeflow.connect import Server, ServerError, connect
from laptop.kubeflow.package import Package, package_of
from laptop.kubeflow.parameters import arguments_of
from laptop.kubeflow.retry import mark_of, retry_if_lost
from laptop.kubeflow.retry_policy import warn_of_lost_pods
from laptop.kubeflow.sql import open_metadata
from laptop.kubeflow.upload import Version, ensure_experiment, ensure_version

HAS_FAILED = 1  # exit status


def submit(options: argparse.Namespace) -> int:
    """Upload what is not there yet, start the run, and follow it when asked. Returns the exit status."""
    package = package_of(options)
    arguments = arguments_of(options, package)
    require_sound(options, package, arguments)
    server = connect(access_of(options))
    if not options.no_check:
        warn_of_lost_pods(server, options.retry, options.wait)
    version, experiment, experiment_id = prepare(server, package, options, arguments)
    name = options.name or f"{experiment} {datetime.now(UTC):%Y-%m-%d %H:%M}"
    run = server.ask(
        "runs.run_service_create_run",
        run={
            "experiment_id": experiment_id,
            "display_name": name,
            **mark_of(options.retry),
            "pipeline_version_reference": version.reference(),
            "runtime_config": {"parameters": arguments},
        },
    )
    run_id = read(Run, run).run_id
    if not run_id:
        raise ServerError("The server took the run but does not say its id. Look for it: python pipeline.py runs")
    print(f"run {run_id}: {name}, in the experiment {experiment}\n{server.link(run_id)}")
    if not options.wait:
        return 0
    from laptop.kubeflow.follow import follow

    metadata = open_metadata(options.workspace)
    while True:
        status = follow(server, run_id, metadata)
        if status != HAS_FAILED or not options.retry or not retry_if_lost(server, run_id, metadata, options.retry):
            return status


def prepare(
    server: Server, package: Package, options: argparse.Namespace, arguments: dict[str, Any]
) -> tuple[Version, str, str]:
    """The pipeline's version, and the experiment's name and id; both are on the server afterwards."""
    version = ensure_version(server, package)
    print(f"pipeline {package.name}, version {version.title}: {'uploaded' if version.made else 'there already'}")
    experiment = options.experiment or str(arguments.get(CATEGORY.name) or package.name)
    return version, experiment, ensure_experiment(server, experiment)
