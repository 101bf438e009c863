"""Whether the server's Argo starts a task again whose pod was deleted gracefully, and a word where nobody would.

As Kubeflow Pipelines comes, Argo repeats what it calls an Error, a pod that is gone. Of pods that are evicted or drained it often
sees the exit code before they are gone, calls that Failed, and the run ends.
"""

import sys
from collections.abc import Mapping
from typing import Any

import yaml

from laptop.kubeflow.connect import NAMESPACE, Server
from laptop.kubeflow.pods import Glance, Pods, RefusedError

CONFIG, DEFAULTS = "workflow-controller-configmap", "workflowDefaults"
ERRORS_ONLY = ("OnError", "OnTransientError")
LOOKS = "sightline-retry"  # the CronJob of manifests/retry
MISSING = 404
HURRY_SECONDS = (1.0, 2.0)  # to connect and to answer: nobody waits long for a warning


def warn_of_lost_pods(server: Server, times: int | None, waits: bool) -> None:
    """Print one line where Argo would let a lost pod end the run, and nobody would retry it; nothing where that is not known.

    The run may be retried so many `times`, by this command itself where it `waits`.
    """
    if times and waits:
        return
    namespace = NAMESPACE if server.namespace else server.pods  # Argo is where the server is, not where its users are
    glance = Glance(namespace, HURRY_SECONDS)
    policy = glance.ask(policy_of)
    if policy not in ERRORS_ONLY:
        return
    if not times:
        what = "say --retry 3, or have an administrator change that"
    elif glance.ask(_somebody_looks) is False:
        what = "--retry takes effect when `runs --retry-lost` is called, and no CronJob calls it"
    else:
        return
    print(
        f"warning: a pod that is evicted or drained may end the run: Argo's retryPolicy is {policy} (ConfigMap {CONFIG} in "
        f"{namespace}, cluster of KUBECONFIG); {what}: docs/cluster.md, section 7",
        file=sys.stderr,
    )


def policy_of(pods: Pods) -> str:
    """Argo's default retryPolicy for every task; empty where none is set."""
    try:
        found: Any = yaml.safe_load(str(pods.config(CONFIG).get(DEFAULTS) or ""))
    except yaml.YAMLError:
        return ""
    for name in ("spec", "templateDefaults", "retryStrategy", "retryPolicy"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def _somebody_looks(pods: Pods) -> bool:
    try:
        return not pods.cron_job(LOOKS).suspended
    except RefusedError as error:
        if error.status != MISSING:
            raise
        return False
