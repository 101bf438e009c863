"""The options of `submit`, `schedule`, `retry`, `runs` and `logs`. Imports little: --help answers at once."""

import argparse
import importlib
from pathlib import Path

from laptop.compiling import add_installation_options
from laptop.options import EXAMPLE_PARAMETER, add_pipeline_options, add_smoke, positive, steps


def add_commands(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    """Add the commands that talk to Kubeflow Pipelines."""
    parents = [shared, _server_options()]

    def add(command: str, help: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(command, parents=parents, help=help)
        parser.set_defaults(run=_run)
        return parser

    submit = add("submit", help="run the pipeline on a cluster")
    _add_wait(submit)
    add_smoke(submit)
    submit.add_argument("--name", help="of the run (default: experiment and time)")
    _add_times(submit, "--wait does it at once, `runs --retry-lost` when it is called")
    _add_pipeline(submit)

    _add_schedule(add("schedule", help="run the pipeline on a cluster again and again"))

    retry = add("retry", help="go on with a run that failed, at its checkpoints; finished steps stay")
    retry.add_argument("which", metavar="RUN", help="its id, the first characters of it, or latest")
    retry.add_argument("--force", action="store_true", help="also an error of a step's own, or what somebody stopped")
    _add_wait(retry)

    runs = add("runs", help="list runs: what Kubeflow says and what SQL says")
    runs.add_argument("--category", help="only this one's")
    runs.add_argument("--limit", type=positive, default=10, metavar="N", help="how many, newest first (default: 10)")
    runs.add_argument("--all", action="store_true", help="other pipelines' runs too")
    runs.add_argument("--json", action="store_true", help="for programs")
    lost = "first retry what a lost pod ended, where --retry N allows it"
    runs.add_argument("--retry-lost", action="store_true", help=lost)

    logs = add("logs", help="print the log of a run's steps (needs kubectl's access)")
    logs.add_argument("which", metavar="RUN", help="its id, the first characters of it, or latest (of ours)")
    logs.add_argument("step", metavar="STEP", nargs="?", help="like train (default: every step)")
    logs.add_argument("--follow", action="store_true", help="wait for the step, and go on while it runs")
    logs.add_argument("--raw", action="store_true", help="with all that Kubeflow's own programs say around it")


def _run(options: argparse.Namespace) -> int:
    """Call the function in the module of the command's name, which is imported only now."""
    module = importlib.import_module(f"laptop.kubeflow.{options.command}")
    status: int = getattr(module, options.command)(options)
    return status


def _server_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    add_server_options(parser)
    return parser


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Where Kubeflow Pipelines is, and who we are there."""
    group = parser.add_argument_group("the server (by an option, or by the environment variable that it names)")
    group.add_argument("--host", metavar="URL", help="address of Kubeflow Pipelines; KF_PIPELINES_ENDPOINT")
    group.add_argument("--ui", metavar="URL", help="of its pages, if elsewhere; KF_PIPELINES_UI_ENDPOINT")
    group.add_argument("--kfp-namespace", metavar="NAME", help="yours, where users have one each; KFP_NAMESPACE")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="holds a bearer token, never shown")
    group.add_argument("--token", help="the token itself (other users of this machine can see it); KF_PIPELINES_TOKEN")
    group.add_argument(
        "--cookies", metavar="FILE", help="holds the session cookie NAME=VALUE (or is it); KF_PIPELINES_COOKIES"
    )
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificate of a private authority; KF_PIPELINES_CA")


def _add_pipeline(parser: argparse.ArgumentParser) -> None:
    """What to run: the options of `local`, where an option that is not given leaves the pipeline's default."""
    parser.add_argument("--pipeline", type=Path, metavar="FILE", help="a compiled YAML (default: this checkout's)")
    parser.add_argument("--steps", type=steps, metavar="A,B", help="some steps only, as for compile")
    parser.add_argument("--experiment", metavar="NAME", help="default: named like the category")
    any_of = f"any parameter of the pipeline, like {EXAMPLE_PARAMETER}"
    parser.add_argument("--param", action="append", metavar="NAME=VALUE", help=any_of)
    parser.add_argument(
        "--no-check", action="store_true", help="do not check images, sizes, config and annotations first"
    )
    add_pipeline_options(parser, category_required=False)
    add_installation_options(parser)


def _add_times(parser: argparse.ArgumentParser, who: str) -> None:
    told = f"retry a run that a lost pod ended, at most N times, and never an error of its own: {who}"
    parser.add_argument("--retry", type=positive, metavar="N", help=told)


def _add_wait(parser: argparse.ArgumentParser) -> None:
    told = "follow the steps to the end; the exit status says whether the run succeeded"
    parser.add_argument("--wait", action="store_true", help=told)


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Each firing trains on the newest annotation version; when nothing is new, every step is reused."
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
        "--server-time-zone", metavar="ZONE", default="UTC", help="the server's, if CRON_SCHEDULE_TIMEZONE is set there"
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
