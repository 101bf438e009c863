"""Parse the command line and start the command. Imports little: --help answers at once."""

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from components.parameters import STEPS, parameters_of
from laptop import LIBRARY, OURS
from laptop.compiling import INSTALLATION, add_installation_options, apply_installation, compile_pipeline
from laptop.examples import EXAMPLES
from laptop.kubeflow.cli import add_commands, add_server_options
from laptop.options import add_pipeline_options, add_smoke, days, given_values, not_negative, pairs_of, positive, steps
from laptop.smoke import smoke_values
from laptop.volume.cli import CLUSTER_COMMANDS, add_cluster_options
from laptop.workspace import look_into_workspace, open_workspace
from sightline.errors import SightlineError, did_you_mean

WRONG_USE = 2  # exit status
HAS_READ_ENOUGH = 141  # likewise, as a shell says of what SIGPIPE ended
NO_THREAD = "can't start new thread"  # Python's words, which alone tell this RuntimeError from others
FREE_SOME = "Free some space there, then run the same command again; python pipeline.py prune shows what may go."
THREADS_REFUSED = (
    "The system refused to start a thread: there are too many processes (ulimit -u), or there is too little memory (ulimit -v). "
    "End some, or raise the limit, then run the same command again."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status; an error that the user can mend is one sentence on stderr."""
    if sys.stdout is None:  # closed, as by `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that others chose may hold what no terminal takes
    options = _parser().parse_args(arguments)
    # A kubeconfig that leaves out the check of certificates has said so; kubectl is silent about it, too.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # head or less has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HAS_READ_ENOUGH
    except SightlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", *OURS):
            raise
        print(
            f"error: {options.command} needs {package}, which {sys.executable} does not have. {_how_to_get_it()}",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = error.filename2 or error.filename or f"something in {options.workspace.resolve()}, or the output,"
            print(f"error: the disk is full: {where} cannot be written. {FREE_SOME}", file=sys.stderr)
            return 1
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        print(f"error: {what}. Check permissions and free space, then run the same command again.", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        print(f"error: {THREADS_REFUSED}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _how_to_get_it() -> str:
    environment = LIBRARY.parent / ".venv"
    activate = f"source {os.path.relpath(environment)}/bin/activate"
    if not (environment / "bin" / "activate").is_file():
        return f"Type `make setup` (or `make setup-submit`) once, then `{activate}`."
    if Path(sys.prefix).resolve() == environment.resolve():
        return "It was made by `make setup-submit`, or is incomplete: type `make setup`."
    return f"Type `{activate}`."


class _Parser(argparse.ArgumentParser):
    """Names the nearest command, option or choice, and where the rest is told, instead of printing the whole usage."""

    def parse_known_args(self, *given: Any, **how: Any) -> Any:
        """Like argparse's, but a command refuses itself what it does not know: only it knows its options."""
        known, unknown = super().parse_known_args(*given, **how)
        if unknown:
            name = next((each for each in unknown if each.startswith("-")), unknown[0]).partition("=")[0]
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            what = f"there is no option {name} here" if name.startswith("-") else f"{name!r} is not expected here"
            self.error(f"{what}.{did_you_mean(name, flags) if name.startswith('-') else ''}")
        return known, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(each) for each in action.choices]
            hint = did_you_mean(str(value), choices) or f" It takes {', '.join(choices)}."
            raise argparse.ArgumentError(action, f"there is no {value!r}.{hint}")

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave."""
        said = message.removeprefix("argument ")
        end = "" if said.endswith((".", "?")) else "."
        print(f"error: {said}{end} See python {self.prog} --help.", file=sys.stderr)
        sys.exit(WRONG_USE)


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    _add_workspace(shared, argparse.SUPPRESS)
    parser = _Parser(
        prog="pipeline.py", description="From labelme annotations to an evaluated, tested, versioned model."
    )
    _add_workspace(parser, Path(".sightline"))
    verbs = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, (purpose, add_options, run) in COMMANDS.items():
        command = verbs.add_parser(name, parents=[shared], help=purpose)
        add_options(command)
        command.set_defaults(run=run)
    add_commands(verbs, shared)
    for name, command in verbs.choices.items():
        command.formatter_class = argparse.RawDescriptionHelpFormatter  # an example that is wrapped cannot be pasted
        command.epilog = f"{command.epilog or ''}\n\nexample: python {parser.prog} {EXAMPLES[name]}".strip()
    return parser


def command_parsers() -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Every command: what it is for, and its options."""
    verbs = next(each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    purposes = {each.dest: each.help or "" for each in verbs._choices_actions}
    return {name: (purposes[name], parser) for name, parser in verbs.choices.items()}


def _add_workspace(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=Path,
        default=default,
        help="where this laptop keeps data, models and reports (default: .sightline)",
    )


def _publish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=Path,
        help="images and their annotations in one of the formats of --format; subfolders are read too",
    )
    parser.add_argument("--category", required=True, help="a short name for what the images show, like desk")
    parser.add_argument("--version", required=True, help="the new version, like v0.1.0")
    parser.add_argument(
        "--format",
        default="auto",
        choices=("auto", "labelme", "coco", "voc", "yolo", "cvat", "folders"),
        help="format of the annotations (default: recognized from the files)",
    )
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="CODE=OUTCOME",
        help="what to do about a finding in a file: fix, drop or fail, like missing_image=drop; overrides the category's "
        "recipe. Shapes are checked later, by record, which follows only the recipe",
    )
    parser.add_argument(
        "--task", default="", help="kind of vision problem, like classification (default: recognized from the files)"
    )


def _publish(options: argparse.Namespace) -> int:
    open_workspace(options.workspace)
    from laptop.publish import publish

    policy = {code: str(value) for code, value in pairs_of("--policy", options.policy, "missing_image=drop").items()}
    return publish(
        options.folder, options.category, options.version, options.format, policy, options.task, options.workspace
    )


def _local_options(parser: argparse.ArgumentParser) -> None:
    add_pipeline_options(parser)
    add_smoke(parser)
    parser.add_argument(
        "--steps", type=steps, default=STEPS, metavar="A,B", help=f"only these steps of {','.join(STEPS)}"
    )
    parser.add_argument(
        "--runner",
        choices=("process", "docker"),
        default="process",
        help="run the steps as processes, or in the images of `make images` (default: process)",
    )
    add_installation_options(parser, ("registry", "tag", "digests"))


def _local(options: argparse.Namespace) -> int:
    apply_installation(options)
    from laptop.local import Request, run_locally

    chosen, values = tuple(step for step in STEPS if step in options.steps), given_values(options)
    if options.smoke:
        values = smoke_values(values, {each.name: each.default for each in parameters_of(chosen)})
    request = Request(chosen, values)
    return run_locally(open_workspace(options.workspace), request, in_containers=options.runner == "docker")


def _versions_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--category", help="only this category")
    parser.add_argument("--all", action="store_true", help="also list what smoke tests published")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _diff_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A", help="a tag like desk_ann_v0.1.0 or desk_train_v0.1.0")
    parser.add_argument("after", metavar="B", help="another tag of the same kind")
    parser.add_argument("--all", action="store_true", help="show every name, not only the first ten of each kind")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, for programs")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", nargs="?", help="a tag like desk_ann_v0.1.0 (default: all)")
    parser.add_argument("--repair", action="store_true", help="repair what can be repaired, then verify again")
    parser.add_argument(
        "--full", action="store_true", help="read every byte back (default: compare sizes and listed checksums)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", help="a tag like desk_ann_v0.1.0 or desk_train_v0.1.0")
    parser.add_argument("--format", required=True, choices=("coco", "yolo", "voc"), help="what to write")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="a new folder (default: named after the tag and format)"
    )


def _catalogue(options: argparse.Namespace) -> int:
    look_into_workspace(options.workspace, reads_storage=options.command != "versions")
    from laptop import catalogue

    match options.command:
        case "versions":
            return catalogue.versions(options.category, options.json, options.all)
        case "diff":
            return catalogue.diff(options.before, options.after, options.json, options.all)
        case "verify":
            return catalogue.verify(options.version, options.repair, options.full, options.json)
    target = options.output or Path(f"{options.version}-{options.format}")
    return catalogue.export(options.version, options.format, target)


def _prune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="remove it (default: only show it)")
    parser.add_argument(
        "--older-than",
        type=days,
        metavar="DAYS",
        help="also results of runs, and models never selected, that no run has used for DAYS days",
    )
    parser.add_argument(
        "--keep",
        type=not_negative,
        metavar="N",
        help="how many of the newest work folders, unpacked datasets, fetched models and weights to keep (default: 10)",
    )
    parser.add_argument("--all", action="store_true", help="show every name, not only how many of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs; cannot be combined with --yes")


def _prune(options: argparse.Namespace) -> int:
    if options.yes and options.json:
        raise SightlineError("--json only shows what may go: leave out --yes, or --json.")
    workspace = look_into_workspace(options.workspace)
    from laptop.prune import Asked, prune

    return prune(workspace, Asked(options.keep, options.older_than, options.yes, options.all, options.json))


def _compile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path("pipeline.yaml"), help="default: pipeline.yaml")
    parser.add_argument(
        "--steps",
        type=steps,
        default=STEPS,
        metavar="A,B",
        help="only these steps, like train,evaluate,test; what the others would have made becomes a parameter",
    )
    add_installation_options(parser)


def _compile(options: argparse.Namespace) -> int:
    apply_installation(options)
    return compile_pipeline(options.output, options.steps)


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="check a cluster too: Kubeflow, secrets, claim, images, and what its helper pod finds",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_cluster_options(parser, "where Sightline is installed")
    add_installation_options(parser, [name for name in INSTALLATION if name != "shared_memory"])
    add_server_options(parser)


def _doctor(options: argparse.Namespace) -> int:
    apply_installation(options)
    from laptop.doctor.command import doctor

    return doctor(options)


def _annotate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", help="a tag like desk_ann_v0.1.0")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: a folder named after the tag)")


def _annotate(options: argparse.Namespace) -> int:
    look_into_workspace(options.workspace)
    from laptop.annotate import annotate, check_out

    return annotate(check_out(options.version, options.folder or Path(options.version)))


def _sample_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a new or empty folder")
    parser.add_argument("--images", type=positive, default=120, help="default: 120")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--labels",
        choices=("board", "numbers", "all"),
        default="numbers",
        help="how detailed the labels are (default: numbers)",
    )


def _sample(options: argparse.Namespace) -> int:
    from laptop.samples import make_plates

    make_plates(options.folder, options.images, options.seed, options.labels)
    print(f"{options.images} licence-plate photographs with labelme JSON in {options.folder}")
    return 0


def _configs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        metavar="WORD",
        nargs="*",
        help="words that stand in the name, task or data; or `show NAME`, or `copy NAME` to begin one of your own with it",
    )


def _configs(options: argparse.Namespace) -> int:
    from laptop import configs

    match options.words:
        case ["show", name]:
            return configs.show_config(name)
        case ["copy", name]:
            return configs.copy_config(name)
    return configs.list_configs(options.words)


COMMANDS = {
    "publish": ("make an annotation version from a folder of annotated images", _publish_options, _publish),
    "local": ("run the pipeline on this machine", _local_options, _local),
    "versions": ("list annotation and dataset versions with their state", _versions_options, _catalogue),
    "diff": ("say how two versions differ: images, objects, classes", _diff_options, _catalogue),
    "verify": ("prove that versions can be read; repair what a crash left", _verify_options, _catalogue),
    "configs": ("list model configs, ours, yours and mmdet's; show or copy one", _configs_options, _configs),
    "prune": ("show what can be removed from the volume and the storage, or remove it", _prune_options, _prune),
    "export": ("write a version as COCO, YOLO or Pascal VOC", _export_options, _catalogue),
    "compile": ("write the pipeline's YAML for the Kubeflow UI", _compile_options, _compile),
    "doctor": ("check what works in this installation, and say how to mend the rest", _doctor_options, _doctor),
    "annotate": ("open an annotation version in labelme", _annotate_options, _annotate),
    "sample": ("make a small licence-plate dataset", _sample_options, _sample),
    **CLUSTER_COMMANDS,
}
"""Name -> what help says, its options, what it does. `kubeflow/cli.py` has the others."""
