"""The options of `submit`, `schedule`, `retry`, `runs` and `logs`. Imports little: --help answers at once."""

import argparse
from pathlib import Path

from laptop.compiling import add_installation_options
from laptop.options import EXAMPLE_PARAMETER, add_pipeline_options, positive, steps


def add_commands(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    """Add the commands that talk to Kubeflow Pipelines."""
    server = _server_options()
    for add in (_add_submit, _add_schedule, _add_retry, _add_runs, _add_logs):
        add(verbs, [shared, server])


def _server_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("the server (each also from the environment)")
    group.add_argument("--host", metavar="URL", help="address of Kubeflow Pipelines; KF_PIPELINES_ENDPOINT")
    group.add_argument("--ui", metavar="URL", help="of its pages, if elsewhere; KF_PIPELINES_UI_ENDPOINT")
    group.add_argument("--kfp-namespace", metavar="NAME", help="yours, where users have one each; KFP_NAMESPACE")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="holds a bearer token, never shown")
    group.add_argument("--token", help="the token itself (other users of this machine can see it); KF_PIPELINES_TOKEN")
    group.add_argument(
        "--cookies", metavar="FILE", help="holds the session cookie NAME=VALUE (or is it); KF_PIPELINES_COOKIES"
    )
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificate of a private authority; KF_PIPELINES_CA")
    return parser


def _add_pipeline(parser: argparse.ArgumentParser) -> None:
    """What to run: the options of `local`, where an option that is not given leaves the pipeline's default."""
    parser.add_argument("--pipeline", type=Path, metavar="FILE", help="a compiled YAML (default: this checkout's)")
    parser.add_argument("--steps", type=steps, metavar="A,B", help="some steps only, as for compile")
    parser.add_argument("--experiment", metavar="NAME", help="default: named like the category")
    parser.add_argument(
        "--param",
        action="append",
        metavar="NAME=VALUE",
        help=f"any parameter of the pipeline, like {EXAMPLE_PARAMETER}",
    )
    parser.add_argument(
        "--no-check", action="store_true", help="send it without looking first at images, sizes, config and annotations"
    )
    add_pipeline_options(parser, category_required=False)
    add_installation_options(parser)


def _add_times(parser: argparse.ArgumentParser, who: str) -> None:
    parser.add_argument(
        "--retry",
        type=positive,
        metavar="N",
        help=f"retry a run that a lost pod ended, at most N times, and never an error of its own: {who}",
    )


def _add_submit(verbs: argparse._SubParsersAction, parents: list[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("submit", parents=parents, help="run the pipeline on a cluster")
    parser.add_argument("--wait", action="store_true", help="follow the steps to the end; the exit status tells it")
    parser.add_argument("--name", help="of the run (default: experiment and time)")
    _add_times(parser, "--wait does it at once, `runs --retry-lost` when it is called")
    _add_pipeline(parser)
    parser.set_defaults(run=_submit)


def _add_schedule(verbs: argparse._SubParsersAction, parents: list[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "schedule",
        parents=parents,
        help="run the pipeline on a cluster again and again",
        epilog="Each firing trains on the newest annotation version; when nothing is new, every step is reused.",
    )
    parser.add_argument(
        "action", nargs="?", default="create", choices=("create", "list", "pause", "resume", "delete"), help="create"
    )
    parser.add_argument("which", nargs="?", metavar="NAME", help="the schedule to pause, resume or delete")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--cron", metavar="FIELDS", help="minute hour day month weekday, like '0 2 * * *'; or with seconds"
    )
    when.add_argument("--every", metavar="TIME", help="an interval, like 90m, 6h or 1d")
    parser.add_argument("--time-zone", metavar="ZONE", help="of --cron, like Europe/Berlin (default: the server's)")
    parser.add_argument(
        "--server-time-zone", metavar="ZONE", default="UTC", help="where it was changed: CRON_SCHEDULE_TIMEZONE there"
    )
    parser.add_argument(
        "--catchup",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="run what was missed during a pause (default: only the latest)",
    )
    parser.add_argument("--max-concurrency", type=positive, default=1, metavar="N", help="runs at once (default: 1)")
    parser.add_argument("--name", help="of the schedule (default: named like the experiment)")
    _add_times(parser, "`runs --retry-lost` does it when it is called")
    parser.add_argument("--replace", action="store_true", help="take the place of a schedule of that name")
    parser.add_argument(
        "--stop-runs", action="store_true", help="with delete or --replace: stop its run too (default: it goes on)"
    )
    _add_pipeline(parser)
    parser.set_defaults(run=_schedule)


def _add_retry(verbs: argparse._SubParsersAction, parents: list[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "retry", parents=parents, help="go on with a run that failed, at its checkpoints; finished steps stay"
    )
    parser.add_argument("which", metavar="RUN", help="its id, the first characters of it, or latest")
    parser.add_argument("--force", action="store_true", help="also an error of a step's own, or what somebody stopped")
    parser.add_argument("--wait", action="store_true", help="follow the steps to the end; the exit status tells it")
    parser.set_defaults(run=_retry)


def _add_runs(verbs: argparse._SubParsersAction, parents: list[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("runs", parents=parents, help="list runs: what Kubeflow says and what SQL says")
    parser.add_argument("--category", help="only this one's")
    parser.add_argument("--limit", type=positive, default=10, metavar="N", help="how many, newest first (default: 10)")
    parser.add_argument("--all", action="store_true", help="other pipelines' runs too")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--retry-lost", action="store_true", help="first retry what a lost pod ended, where --retry N allows it"
    )
    parser.set_defaults(run=_runs)


def _add_logs(verbs: argparse._SubParsersAction, parents: list[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("logs", parents=parents, help="print the log of a run's steps (needs kubectl's access)")
    parser.add_argument("which", metavar="RUN", help="its id, the first characters of it, or latest (of ours)")
    parser.add_argument("step", metavar="STEP", nargs="?", help="like train (default: every step)")
    parser.add_argument("--follow", action="store_true", help="wait for the step, and go on while it runs")
    parser.add_argument("--raw", action="store_true", help="with all that Kubeflow's own programs say around it")
    parser.set_defaults(run=_logs)


def _submit(options: argparse.Namespace) -> int:
    from laptop.kubeflow.submit import submit

    return submit(options)


def _schedule(options: argparse.Namespace) -> int:
    from laptop.kubeflow.schedule import schedule

    return schedule(options)


def _retry(options: argparse.Namespace) -> int:
    from laptop.kubeflow.retry import retry

    return retry(options)


def _runs(options: argparse.Namespace) -> int:
    from laptop.kubeflow.runs import runs

    return runs(options)


def _logs(options: argparse.Namespace) -> int:
    from laptop.kubeflow.logs import logs

    return logs(options)
