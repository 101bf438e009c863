"""`pipeline.py schedule`: runs that start by themselves."""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from components.parameters import ANNOTATION_VERSION, CATEGORY
from laptop.kubeflow.access import access_of
from laptop.kubeflow.answers import Run, Schedule
from laptop.kubeflow.checks import require_sound
from laptop.kubeflow.connect import Server, ServerError, connect
from laptop.kubeflow.cron import UNITS, convert, kept, next_change, next_firing, read_cron, when, zone_of
from laptop.kubeflow.find import newest_runs
from laptop.kubeflow.package import arguments_of, package_of
from laptop.kubeflow.retry import description_of, warn_of_lost_pods
from laptop.kubeflow.sql import Metadata, open_metadata, write_stopped
from laptop.kubeflow.submit import prepare
from laptop.kubeflow.tasks import ENDED
from laptop.tables import print_table
from sightline.errors import SightlineError, nearest

SHORTEST_SECONDS = 60
MOST_AT_ONCE = 10  # Kubeflow refuses more
LEAVE_RUNS = "ORPHAN"  # Kubernetes' word; without it the run's workflow is removed within seconds
HAS_ENDED = (400, 404)
BROKEN = 500


def schedule(options: argparse.Namespace) -> int:
    """Do what the action says. Returns the exit status."""
    if options.action == "create":
        return _create(options)
    if options.action == "list":
        zone = zone_of("--server-time-zone", options.server_time_zone)
        return _list(connect(access_of(options)), zone)
    if not options.which:
        raise SightlineError(
            f"Say which schedule: python pipeline.py schedule {options.action} NAME. `schedule list` shows their names."
        )
    server = connect(access_of(options))
    for found in _named(server, options.which):
        told = _act(server, options, options.action, found)
        done = {"pause": "paused", "resume": "resumed", "delete": "deleted"}[options.action]
        print(f"schedule {found.display_name}: {done}", *told, sep="\n")
    return 0


def _create(options: argparse.Namespace) -> int:
    trigger, told, keeps = _trigger(options)
    package = package_of(options)
    arguments = arguments_of(options, package)
    _require_sense(options, arguments)
    require_sound(options, package, arguments)
    server = connect(access_of(options))
    name = options.name or options.experiment or str(arguments.get(CATEGORY.name) or package.name)
    there = [each for each in _schedules(server) if each.display_name == name]
    if there and not options.replace:
        raise SightlineError(
            f"There is a schedule {name} already ({when(there[0])}). Replace it with --replace, or give another --name."
        )
    if not options.no_check:
        warn_of_lost_pods(server, options.retry, waits=False)
    body, experiment, version = prepare(server, package, options, arguments)
    server.ask(
        "recurring_runs.recurring_run_service_create_recurring_run",
        recurring_run={
            **body,
            "display_name": name,
            **description_of(options.retry, keeps),
            "trigger": trigger,
            "mode": "ENABLE",
            "max_concurrency": options.max_concurrency,
            "no_catchup": not options.catchup,
        },
    )
    before = [line for old in there for line in _act(server, options, "delete", old)]
    print(f"schedule {name}: {told}; runs in the experiment {experiment}{', replaced' if there else ''}")
    print(*before, f"each firing runs {version}; to change that: schedule … --replace", sep="\n")
    return 0


def _require_sense(options: argparse.Namespace, arguments: Mapping[str, Any]) -> None:
    if arguments.get(ANNOTATION_VERSION.name):
        raise SightlineError(
            "A schedule trains on the newest annotation version at each firing: leave the annotation version out, or run "
            "that one once with submit."
        )
    if options.max_concurrency > MOST_AT_ONCE:
        raise SightlineError(f"--max-concurrency is at most {MOST_AT_ONCE}, Kubeflow's limit.")


def _trigger(options: argparse.Namespace) -> tuple[dict[str, Any], str, str]:
    """When to fire, as the server takes it, in words, and what the schedule keeps of how it was typed."""
    if options.every:
        if options.time_zone:
            raise SightlineError("--time-zone goes with --cron; an interval has no time of day.")
        seconds = _seconds(options.every)
        return {"periodic_schedule": {"interval_second": seconds}}, f"every {options.every} ({seconds} s)", ""
    if not options.cron:
        raise SightlineError("Say when: --cron '0 2 * * *' (with --time-zone Europe/Berlin), or --every 6h.")
    cron, now = read_cron(options.cron), datetime.now(UTC)
    there = zone_of("--server-time-zone", options.server_time_zone)
    here = zone_of("--time-zone", options.time_zone) if options.time_zone else there
    sent = convert(cron, here, there, now)
    following = sent.next_after(now.astimezone(there))
    words = f"cron '{sent}' by the server's clock ({there})"
    if following:
        words += f", first at {following.astimezone(here):%Y-%m-%d %H:%M} {here}"
    if change := next_change(cron, here, there, now):
        print(
            f"warning: Kubeflow keeps one time zone for all schedules, here {there}. From {change:%Y-%m-%d} on, when clocks "
            f"change, this fires at another time in {here}. To avoid that, have CRON_SCHEDULE_TIMEZONE={here} set for the "
            f"installation (ConfigMap pipeline-install-config, key cronScheduleTimezone) and say --server-time-zone {here}.",
            file=sys.stderr,
        )
    return {"cron_schedule": {"cron": str(sent)}}, words, kept(options.cron, here, sent, there)


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)([smhd])", text.strip().lower())
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if seconds < SHORTEST_SECONDS:
        raise SightlineError(f"--every {text!r} is not an interval of at least a minute. Write it like 90m, 6h or 1d.")
    return seconds


def _schedules(server: Server) -> list[Schedule]:
    question = "recurring_runs.recurring_run_service_list_recurring_runs"
    found = server.list(Schedule, question, "recurring_runs", sort_by="", **server.within)
    return [each for each in found if each.recurring_run_id]


def _named(server: Server, name: str) -> list[Schedule]:
    everything = _schedules(server)
    found = [each for each in everything if name in (each.display_name, each.recurring_run_id)]
    if not found:
        names = {each.display_name or each.recurring_run_id for each in everything}
        raise SightlineError(f"There is no schedule {name}.{nearest(name, names) or ' There are no schedules.'}")
    return found


def _act(server: Server, options: argparse.Namespace, action: str, found: Schedule) -> list[str]:
    """Pause, resume or delete; of what is deleted the run goes on, or is stopped before. Returns a line for each such run."""
    if action != "delete":
        _tell(server, {"pause": "disable", "resume": "enable"}[action], found)
        return []
    if options.stop_runs:
        metadata = open_metadata(options.workspace)
        _tell(server, "disable", found)  # so that none starts in between
        told = [_stop(server, run, metadata) for run in _runs_going(server, found)]
    else:
        told = [
            f"run {run.run_id}: {run.display_name} goes on and ends by itself (--stop-runs would have stopped it); without "
            "its schedule it cannot be retried"
            for run in _runs_going(server, found)
        ]
    _tell(server, "delete", found, propagation_policy=LEAVE_RUNS)
    return told


def _tell(server: Server, verb: str, found: Schedule, **values: str) -> None:
    question = f"recurring_runs.recurring_run_service_{verb}_recurring_run"
    server.ask(question, recurring_run_id=found.recurring_run_id, **values)


def _runs_going(server: Server, found: Schedule) -> Iterator[Run]:
    """The schedule's runs that have not ended, newest first."""
    for run in newest_runs(server, experiment_id=found.experiment_id):
        if run.created_at and found.created_at and run.created_at < found.created_at:
            return
        if run.recurring_run_id == found.recurring_run_id and run.state not in ENDED:
            yield run


def _stop(server: Server, run: Run, metadata: Metadata) -> str:
    """Stop a run and have SQL say so. Returns what became of it."""
    what = f"run {run.run_id}: {run.display_name}"
    try:
        server.ask("runs.run_service_terminate_run", run_id=run.run_id)
    except ServerError as error:
        if error.status == BROKEN and "not found" in str(error):
            gone = write_stopped(metadata, run.run_id)
            return f"{what} was lost, with its workflow; {gone}. Archive or delete it in the UI"
        if error.status not in HAS_ENDED:
            raise
        return f"{what} had just ended"
    return f"{what} is being stopped; {write_stopped(metadata, run.run_id)}"


def _list(server: Server, server_zone: tzinfo) -> int:
    rows = [
        (
            each.display_name,
            str(each.parameters.get(CATEGORY.name) or "-"),
            "paused" if each.status == "DISABLED" else "on",
            when(each, server_zone),
            next_firing(each, server_zone) or "-",
            str(each.max_concurrency),
            "no" if each.no_catchup else "yes",
            f"{each.created_at:%Y-%m-%d %H:%M}" if each.created_at else "",
        )
        for each in sorted(_schedules(server), key=lambda one: one.display_name)
    ]
    if rows:
        print_table(("schedule", "category", "state", "when", "next", "at once", "catch up", "made (UTC)"), rows)
    else:
        print("no schedules yet\nnext: python pipeline.py schedule --category desk --cron '0 2 * * *'")
    return 0
