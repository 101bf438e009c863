"""Parse the command line and start the command. Imports little: --help answers at once."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from laptop.workspace import open_workspace, use_library

STEPS = ("snapshot", "record", "train", "evaluate", "test")
LABEL_SETS = ("board", "numbers", "all")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status; an error that the user can mend is one sentence on stderr."""
    options = _parser().parse_args(arguments)
    use_library()
    from sightline.errors import SightlineError

    try:
        return options.run(options)
    except SightlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    _add_workspace(shared, argparse.SUPPRESS)
    parser = argparse.ArgumentParser(
        prog="pipeline.py", description="From labelme annotations to an evaluated, tested, versioned model."
    )
    _add_workspace(parser, Path(".sightline"))
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_publish, _add_local, _add_compile, _add_annotate, _add_sample):
        add(verbs, shared)
    return parser


def _add_workspace(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=Path,
        default=default,
        help="where this laptop keeps data, models and reports (default: .sightline)",
    )


def _add_publish(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("publish", parents=[shared], help="make an annotation version from a labelme folder")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="images and labelme JSON files, nested or not")
    parser.add_argument("--category", required=True, help="what the annotations are of, like desk")
    parser.add_argument("--version", required=True, help="the new version, like v0.1.0")
    parser.set_defaults(run=_publish)


def _add_local(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("local", parents=[shared], help="run the pipeline on this machine")
    parser.add_argument("--category", required=True, help="what to train on, like desk")
    parser.add_argument("--annotation-version", default="", metavar="V", help="default: the newest")
    parser.add_argument("--config", default="mask_rcnn_r18_small", help="a config in shared_volume/configs")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the config, like optim_wrapper.optimizer.lr=0.002; +KEY=VALUE adds one",
    )
    parser.add_argument("--epochs", type=_positive, default=0, help="training length (default: the config's)")
    parser.add_argument("--select-by", default="bbox_mAP", metavar="METRIC", help="what the best model is best at")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="what evaluate scores on")
    parser.add_argument(
        "--candidate", action="append", default=[], metavar="URI", help="a further model bundle for evaluate to compare"
    )
    parser.add_argument("--images", default="", metavar="PLACE", help="test on this folder or gs:// prefix instead")
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, metavar="S", help="what test draws (default: 0.3)"
    )
    parser.add_argument("--device", default="", help="cpu, cuda, … (default: a GPU when there is one)")
    parser.add_argument("--steps", type=_steps, default=STEPS, metavar="A,B", help=f"some of {','.join(STEPS)}")
    parser.add_argument("--dataset-version", default="", metavar="V", help="when record is left out")
    parser.add_argument("--model", default="", metavar="URI", help="a model bundle, when train is left out")
    parser.set_defaults(run=_local)


def _add_compile(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("compile", parents=[shared], help="write the pipeline's YAML for the Kubeflow UI")
    parser.add_argument("-o", "--output", type=Path, default=Path("pipeline.yaml"), help="default: pipeline.yaml")
    parser.add_argument("--registry", help="where the images lie, like europe-docker.pkg.dev/project/repo")
    parser.add_argument("--tag", help="the images' tag (default: latest)")
    parser.set_defaults(run=_compile)


def _add_annotate(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("annotate", parents=[shared], help="open an annotation version in labelme")
    parser.add_argument("version", metavar="VERSION", help="a tag like desk_ann_v0.1.0")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: a folder named like the tag)")
    parser.set_defaults(run=_annotate)


def _add_sample(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("sample", parents=[shared], help="make a small licence-plate dataset")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a new or empty folder")
    parser.add_argument("--images", type=_positive, default=120, help="default: 120")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--labels", choices=LABEL_SETS, default="numbers", help="how fine (default: numbers)")
    parser.set_defaults(run=_sample)


def _publish(options: argparse.Namespace) -> int:
    open_workspace(options.workspace)
    from laptop.publish import publish

    return publish(options.folder, options.category, options.version)


def _local(options: argparse.Namespace) -> int:
    from laptop.local import Request, run_locally

    request = Request(
        steps=tuple(step for step in STEPS if step in options.steps),
        category=options.category,
        annotation_version=options.annotation_version,
        config=options.config,
        overrides=_overrides(options.set),
        epochs=options.epochs,
        select_by=options.select_by,
        evaluation_split=options.split,
        candidate_models=options.candidate,
        test_images=options.images,
        score_threshold=options.score_threshold,
        device=options.device,
        dataset_version=options.dataset_version,
        model=options.model,
    )
    return run_locally(open_workspace(options.workspace), request)


def _compile(options: argparse.Namespace) -> int:
    from laptop.compiling import compile_pipeline

    return compile_pipeline(options.output, options.registry, options.tag)


def _annotate(options: argparse.Namespace) -> int:
    open_workspace(options.workspace)
    from laptop.annotate import annotate, check_out

    return annotate(check_out(options.version, options.folder or Path(options.version)))


def _sample(options: argparse.Namespace) -> int:
    from laptop.samples import make_plates

    make_plates(options.folder, options.images, options.seed, options.labels)
    print(f"{options.images} licence-plate photographs with labelme JSON in {options.folder}")
    return 0


def _overrides(pairs: Sequence[str]) -> dict[str, object]:
    from sightline.errors import SightlineError

    overrides: dict[str, object] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise SightlineError(
                f"--set {pair!r} is not KEY=VALUE. Write it like --set optim_wrapper.optimizer.lr=0.002"
            )
        overrides[key] = _value(value)
    return overrides


def _value(text: str) -> object:
    """Numbers, true/false/null, lists and objects as JSON or Python writes them; anything else is a text."""
    import ast

    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _steps(text: str) -> tuple[str, ...]:
    chosen = [step.strip() for step in text.split(",") if step.strip()]
    unknown = [step for step in chosen if step not in STEPS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(STEPS)}")
    return tuple(chosen)
