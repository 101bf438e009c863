"""`pipeline.py retry`, and who retries by itself: the server's own retry of a failed run, which goes on at its checkpoints.

How often a run may be retried stands in its description, or its schedule's; how often it was, in its history. Both are on
the server, so that whoever looks knows them, and a run that runs again refuses a second retry: two who look retry it once.

As Kubeflow Pipelines comes, Argo repeats what it calls an Error, a pod that is gone. Of pods that are evicted or drained it often
sees the exit code before they are gone, calls that Failed, and the run ends: where nobody would retry it, that is warned of.
"""

import argparse
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from typing import Any

import yaml

from laptop.kubeflow.access import access_of
from laptop.kubeflow.answers import Run, Schedule, read
from laptop.kubeflow.connect import NAMESPACE, Server, ServerError, connect
from laptop.kubeflow.find import LOCAL, find_run_id, get_run, newest_runs
from laptop.kubeflow.follow import follow
from laptop.kubeflow.pods import Glance, Pods, RefusedError
from laptop.kubeflow.sql import Metadata, open_metadata, write_retried
from laptop.kubeflow.steps import SILENT, Evidence, Reason, why_failed
from laptop.kubeflow.tasks import DONE, FAILED, STOPPED, state_of, steps_of
from sightline.errors import SightlineError

MARK = re.compile(r"\bretry=(\d+)\b")
RUNS_AGAIN = 409
MISSING = 404
CONFIG, DEFAULTS = "workflow-controller-configmap", "workflowDefaults"
ERRORS_ONLY = ("OnError", "OnTransientError")
LOOKS = "sightline-retry"  # the CronJob of manifests/retry
HURRY_SECONDS = (1.0, 2.0)  # to connect and to answer: nobody waits long for a warning
LAG_SECONDS = 1.0  # in the second in which a run ends, its steps may still be said to run
LOOKED_AT = timedelta(days=7)  # `runs --retry-lost` passes over runs that are older


def description_of(times: int | None, keeps: str = "") -> dict[str, str]:
    """The description of a run or a schedule: what is allowed of retries, and what it `keeps`; none where there is neither."""
    mark = f"Retried at most {times} times when a pod is lost (retry={times})" if times else ""
    said = "; ".join(filter(None, (mark, keeps)))
    return {"description": said} if said else {}


def attempts_of(run: Run) -> int:
    """How often it was retried so far, by whomever."""
    return sum(pair == ("FAILED", "RUNNING") for pair in pairwise(each.state for each in run.state_history))


def cause_of(run: Run, metadata: Metadata, glance: Glance) -> Reason:
    """What ended a failed run, by what `runs` says of its steps: one error of a step's own outweighs whatever was lost."""
    if state_of(run) == STOPPED:
        return Reason("stopped", "somebody stopped it")
    known = Evidence(run.run_id, run, metadata, glance)
    failed = [name for each in (known.steps, known.sql_rows) for name, step in each.items() if step.state == FAILED]
    causes = [replace(why_failed(known, name), step=name) for name in dict.fromkeys(failed)]
    if causes:
        return min(causes, key=lambda cause: ("error", "lost", "unknown").index(cause.kind))
    if lost := next((row.step for row in known.sql_rows.values() if row.state != DONE), ""):
        return Reason("lost", SILENT, step=lost)
    no_sql = f", and SQL cannot be read ({metadata.missing})" if metadata.missing else ""
    return Reason("unknown", f"no step says why{no_sql}")


def retry(options: argparse.Namespace) -> int:
    """Retry the run that was named, unless that would not help. Returns the exit status."""
    _require_cluster(options.which)
    server, metadata = connect(access_of(options)), open_metadata(options.workspace)
    run_id = find_run_id(options.which, server, metadata, "")
    _require_cluster(run_id)
    run = get_run(server, run_id)
    _require_failed(run)
    _schedule_of(server, run)
    cause = cause_of(run, metadata, Glance(server.pods))
    if not options.force:
        _require_use(run, cause)
    if cause.kind == "unknown":
        print(f"what ended it is not known ({cause.why}); retried all the same", file=sys.stderr)
    if _retry(server, run, cause, metadata, None):
        number = attempts_of(run) + 1
        nth = {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
        print(f"run {run.run_id}: retried, for the {nth} time; finished steps are not run again")
    else:
        print(f"run {run.run_id}: is running again already: somebody else was faster")
    print(server.link(run.run_id))
    return follow(server, run.run_id, metadata) if options.wait else 0


def _require_cluster(run_id: str) -> None:
    if LOCAL.fullmatch(run_id):
        raise SightlineError(
            f"{run_id} is a run of this laptop, and `retry` is for Kubeflow's: run the same command again to go on "
            "(python pipeline.py local …)."
        )


def _require_use(run: Run, cause: Reason) -> None:
    if cause.kind == "error":
        why = _short(cause.why)
        why += "" if why.endswith((".", "!", "?")) else "."
        raise SightlineError(
            f"The step {cause.step} of the run {run.run_id} failed by itself: {why} A retry would end the "
            "same way. Correct it and submit again; --force retries all the same."
        )
    if cause.kind == "stopped":
        raise SightlineError(
            f"Somebody stopped the run {run.run_id} ({run.display_name}), in the UI or with its schedule, and `retry` starts "
            "again only what failed. --force goes on with it at its checkpoints."
        )


def retry_if_lost(server: Server, run_id: str, metadata: Metadata, times: int, glance: Glance | None = None) -> bool:
    """Retry a run that a lost pod, a dead driver or an unreachable API server ended. Says what it does, or why not."""
    run = get_run(server, run_id)
    if run.state == "FAILED" and all(step.state != FAILED for step in steps_of(run)):
        time.sleep(LAG_SECONDS)
        run = get_run(server, run_id)
    if run.state != "FAILED":
        return False
    cause, before = cause_of(run, metadata, glance or Glance(server.pods)), attempts_of(run)
    if cause.kind != "lost" or before >= times:
        spent = f"it was retried {before} times already" if cause.kind == "lost" else f"{cause.kind}: {cause.why}"
        print(f"run {run_id}: not retried ({_short(spent)})", file=sys.stderr)
        return False
    _schedule_of(server, run)
    if _retry(server, run, cause, metadata, times):
        print(f"run {run_id}: retry {before + 1} of {times}, since {_told(cause)}")
    return True


def retry_lost_runs(server: Server, metadata: Metadata) -> None:
    """Retry every run of the last days that says it may be, was lost, and has a retry left."""
    oldest, glance = datetime.now(UTC) - LOOKED_AT, Glance(server.pods)
    for run in takewhile(lambda run: run.began >= oldest, newest_runs(server)):
        if run.state != "FAILED" or state_of(run) == STOPPED:
            continue
        try:
            if times := _allowed(server, run):
                retry_if_lost(server, run.run_id, metadata, times, glance)
        except SightlineError as error:
            print(f"run {run.run_id}: not retried ({error})", file=sys.stderr)


def _allowed(server: Server, run: Run) -> int:
    """How often it may be retried: by its own description, or its schedule's."""
    found = MARK.search(run.description)
    if not found and (schedule := _schedule_of(server, run)):
        found = MARK.search(schedule.description)
    return int(found[1]) if found else 0


def _require_failed(run: Run) -> None:
    state = state_of(run)
    if state == DONE:
        raise SightlineError(f"The run {run.run_id} succeeded: there is nothing to retry. `submit` starts another.")
    if state not in (FAILED, STOPPED):
        orphan = " If its schedule was deleted in the meantime, it will say so for ever: archive it in the UI and submit again."
        raise SightlineError(
            f"The run {run.run_id} has not ended (Kubeflow: {state}), and only a run that has ended can be retried."
            f"{orphan if run.recurring_run_id else ''}"
        )


def _schedule_of(server: Server, run: Run) -> Schedule | None:
    """The schedule that started the run, if one did; refuses a run whose schedule is gone, which cannot be retried."""
    if not run.recurring_run_id:
        return None
    question = "recurring_runs.recurring_run_service_get_recurring_run"
    try:
        return read(Schedule, server.ask(question, recurring_run_id=run.recurring_run_id))
    except ServerError as error:
        if error.status != MISSING:
            raise
    category = run.parameters.get("category") or "…"
    raise SightlineError(
        f"The schedule that started the run {run.run_id} is deleted, and a retry of it would be lost: the server would say "
        "yes, and Kubernetes remove at once what belongs to a schedule that is gone. Start another, which goes on at the "
        f"same checkpoint: python pipeline.py submit --category {category}"
    )


def _retry(server: Server, run: Run, cause: Reason, metadata: Metadata, times: int | None) -> bool:
    """False when it runs already: of two who retry at once the server refuses one."""
    try:
        server.ask("runs.run_service_retry_run", run_id=run.run_id)
    except ServerError as error:
        if error.status == RUNS_AGAIN and get_run(server, run.run_id).state != "FAILED":
            return False
        raise
    message = f"{attempts_of(run) + 1}{f' of {times}' if times else ' by hand'}: {_told(cause)}"
    try:
        write_retried(metadata, run.run_id, cause.step, message)
    except SightlineError as error:  # a retry is not undone because SQL does not answer
        print(f"the retry is not in SQL: {error}", file=sys.stderr)
    return True


def _told(cause: Reason) -> str:
    return f"{cause.step}: {_short(cause.why)}" if cause.step else _short(cause.why)


def _short(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:200]


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
