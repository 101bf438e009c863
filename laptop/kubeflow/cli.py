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
    submit.add_argument("--name", help="name of the run (default: experiment and time)")
    _add_times(submit, "--wait retries at once, `runs --retry-lost` whenever it is called")
    _add_pipeline(submit)

    _add_schedule(add("schedule", help="run the pipeline on a cluster on a schedule"))

    retry = add("retry", help="continue a failed run from its checkpoints; finished steps are kept")
    retry.add_argument("which", metavar="RUN", help="the run's id, its first characters, or latest")
    retry.add_argument(
        "--force", action="store_true", help="also after an error of a step's own, or when somebody stopped the run"
    )
    _add_wait(retry)

    runs = add("runs", help="list runs, with what Kubeflow and SQL say of each")
    runs.add_argument("--category", help="only this category")
    runs.add_argument("--limit", type=positive, default=10, metavar="N", help="how many, newest first (default: 10)")
    runs.add_argument("--all", action="store_true", help="list other pipelines' runs too")
    runs.add_argument("--json", action="store_true", help="print JSON, for programs")
    lost = "first retry the runs that a lost pod ended, where --retry N allows it"
    runs.add_argument("--retry-lost", action="store_true", help=lost)

    logs = add("logs", help="print the log of a run's steps (needs access to the cluster, like kubectl)")
    logs.add_argument("which", metavar="RUN", help="the run's id, its first characters, or latest (of this pipeline)")
    logs.add_argument("step", metavar="STEP", nargs="?", help="a step, like train (default: every step)")
    logs.add_argument("--follow", action="store_true", help="wait for the step to begin, and print while it runs")
    logs.add_argument("--raw", action="store_true", help="also print what Kubeflow's own programs say around it")


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
    group.add_argument(
        "--ui", metavar="URL", help="address of its pages, if it is another one; KF_PIPELINES_UI_ENDPOINT"
    )
    group.add_argument("--kfp-namespace", metavar="NAME", help="your namespace, if each user has one; KFP_NAMESPACE")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="file with a bearer token, which is never shown")
    group.add_argument("--token", help="the token itself (other users of this machine can see it); KF_PIPELINES_TOKEN")
    group.add_argument(
        "--cookies",
        metavar="FILE",
        help="file with the session cookie NAME=VALUE, or the cookie itself; KF_PIPELINES_COOKIES",
    )
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificate of a private authority; KF_PIPELINES_CA")


def _add_pipeline(parser: argparse.ArgumentParser) -> None:
    """What to run: the options of `local`, where an option that is not given leaves the pipeline's default."""
    parser.add_argument("--pipeline", type=Path, metavar="FILE", help="a compiled YAML (default: this checkout's)")
    parser.add_argument("--steps", type=steps, metavar="A,B", help="only these steps, as for compile")
    parser.add_argument("--experiment", metavar="NAME", help="experiment of the run (default: the category)")
    any_of = f"any parameter of the pipeline, like {EXAMPLE_PARAMETER}"
    parser.add_argument("--param", action="append", metavar="NAME=VALUE", help=any_of)
    parser.add_argument(
        "--no-check", action="store_true", help="skip the checks of images, sizes, config and annotations"
    )
    add_pipeline_options(parser, category_required=False)
    add_installation_options(parser)


def _add_times(parser: argparse.ArgumentParser, who: str) -> None:
    told = f"retry a run at most N times if a lost pod ended it, never after an error of its own: {who}"
    parser.add_argument("--retry", type=positive, metavar="N", help=told)


def _add_wait(parser: argparse.ArgumentParser) -> None:
    told = "follow the steps to the end; the exit status says whether the run succeeded"
    parser.add_argument("--wait", action="store_true", help=told)


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Each firing trains on the newest annotation version; when nothing is new, every step is reused."
    parser.add_argument(
        "action",
        nargs="?",
        default="create",
        choices=("create", "list", "pause", "resume", "delete"),
        help="what to do (default: create)",
    )
    parser.add_argument("which", nargs="?", metavar="NAME", help="the schedule to pause, resume or delete")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--cron", metavar="FIELDS", help="minute hour day month weekday, like '0 2 * * *'; or with seconds"
    )
    when.add_argument("--every", metavar="TIME", help="an interval, like 90m, 6h or 1d")
    parser.add_argument(
        "--time-zone", metavar="ZONE", help="time zone of --cron, like Europe/Berlin (default: the server's)"
    )
    parser.add_argument(
        "--server-time-zone",
        metavar="ZONE",
        default="UTC",
        help="the server's time zone, if CRON_SCHEDULE_TIMEZONE is set there",
    )
    parser.add_argument(
        "--catchup",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="run what was missed during a pause (default: only the latest)",
    )
    parser.add_argument(
        "--max-concurrency",
        type=positive,
        default=1,
        metavar="N",
        help="how many of its runs may be active at once (default: 1)",
    )
    parser.add_argument("--name", help="name of the schedule (default: the experiment's)")
    _add_times(parser, "`runs --retry-lost` does it whenever it is called")
    parser.add_argument("--replace", action="store_true", help="replace the schedule of that name")
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="with delete or --replace: also stop its run in progress (default: it goes on)",
    )
    _add_pipeline(parser)
