"""What a task is: the parts that the steps ask for, a module each in the task's folder.

A task says what a sample is, what a prediction is, and how good it is; the steps know nothing else of it. Ours lie in
`sightline/tasks/`, users' in `custom/tasks/`. A step's release holds only the parts that the step asks for.

The truth of a split (`train.json`, …) has COCO's lists `images`, `annotations` and `categories`; an annotation has `image_id`
and `category_id`, and whatever else its task knows. A model's results are a list of the same, with `score`.
"""

import ast
import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, get_args, get_type_hints

from sightline.errors import SightlineError, clause, nearest
from sightline.references import DETECTION

CLASSIFICATION: Final = "classification"
OURS: Final = (DETECTION, CLASSIFICATION)
HOMES: Final = ("custom", "sightline")  # where tasks lie; a part in `custom` replaces ours of the same name

PARTS: Final[Mapping[str, tuple[str, ...]]] = {  # step -> the parts that it asks for
    "record": ("facts", "data", "draw"),
    "train": ("facts", "fit", "predict", "scoring"),
    "trial": ("facts", "fit", "predict", "scoring"),
    "evaluate": ("facts", "predict", "scoring", "draw", "report"),
    "test": ("facts", "predict", "draw"),
}


class UnknownTaskError(SightlineError):
    """There is no such task, or it lacks a part."""


class Facts(Protocol):
    """Plain data, imported everywhere."""

    CONFIG: str  # the config when none is named
    SELECT_BY: str  # the value that selects the best model when none is named; the higher, the better
    # Every value that the scoring part gives; a task may leave this out: then what selects is not looked at beforehand.
    NAMES: Sequence[str]
    HEADLINES: Sequence[str]  # the values that are shown first, in this order, as far as a model has them
    # Those that stand for all: in a line of the log (overall), in the chart of classes (per class).
    SHORTEST: Sequence[str]
    # Pattern of metrics' names, as of files -> title of the chart of a training that shows them; the first that fits.
    CHARTS: Mapping[str, str]  # metrics that none fits share a chart
    ANNOTATED: str  # what one annotation is of, in the singular: an object, an image
    FOUND: str  # what one result is, in the singular


class Data(Protocol):
    """What an annotation must be, and what is written for a split."""

    # Shapes with an area are the objects; or the document's ticks say what the image as a whole is.
    ANNOTATED_BY: Literal["shapes", "flags"]

    def truth_of(self, images: Sequence[Any], classes: Sequence[str]) -> dict[str, Any]:
        """The truth of one split, of `annotations.instances.DatasetImage` sorted by name."""


class Fit(Protocol):
    """Models and datasets as mmengine's Runner takes them."""

    SCOPE: str  # mmengine's registry of a config's types: mmdet; mmengine when they are registered there

    def training_dataset(self, config: Any, dataset_dir: Path, classes: Sequence[str]) -> Any: ...
    def evaluation_dataset(self, config: Any, dataset_dir: Path, split: str, classes: Sequence[str]) -> Any: ...
    def evaluator(self, dataset_dir: Path, split: str, score: "Score") -> dict[str, Any]:
        """mmengine's config of a metric that hands a validation's truth and results to `score`, and returns its values."""


class Predictor(Protocol):
    """A model that is ready to use."""

    classes: Sequence[str]  # names, by label
    outputs: Sequence[str]  # what its results hold, for `Scoring.score`

    def results(self, image: Any, image_id: int) -> list[dict[str, Any]]:
        """What is on an image, (H, W, 3) uint8 BGR, upright."""


class Predict(Protocol):
    """From a model to results."""

    def load_predictor(self, bundle_dir: Path, device: str, sha256: str | None) -> Predictor: ...
    def predictor_of(self, model: Any, config: Any, classes: Sequence[str]) -> Predictor: ...


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often which class was taken for which: counts as [truth, predicted], and what a reader has to know of them."""

    labels: tuple[str, ...]
    matrix: Any
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """Metric values; NaN where nothing of that class or size is in the truth."""

    values: dict[str, float]  # metric name -> value over all classes
    per_class: dict[str, dict[str, float]]  # class name -> metric name -> value


@dataclass(frozen=True, slots=True)
class ImageScore:
    """How good one image's results are."""

    found: int  # annotations with a result of their class
    missed: int  # annotations without
    false: int  # results without an annotation
    sureness: float = 0.0  # ranks images whose F1 is the same, the surest first
    note: str = ""  # the same in words, below the image

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for an image with nothing to find and nothing found."""
        total = 2 * self.found + self.missed + self.false
        return 2 * self.found / total if total else 1.0


# Of a split's truth, a model's results on it, the kinds of its outputs.
Score = Callable[[Any, Any, Sequence[str]], Scores]


class Scoring(Protocol):
    """How good results are, by the numbers that select; training is named by them, so what only reports show is no part of it."""

    def score(self, truth: Any, results: Any, outputs: Sequence[str] = ...) -> Scores: ...


class Draw(Protocol):
    """Annotations and results on their image."""

    def shown_of(self, results: Sequence[Any], score_threshold: float) -> list[Any]:
        """The results of one image that are drawn and counted."""

    def shapes_of(self, objects: Iterable[Any], classes: Sequence[str], size: tuple[int, int]) -> list[Any]:
        """Annotations, or results that `shown_of` gave, as `reports.pictures.Shape`."""

    def caption(self, objects: Sequence[Any], classes: Sequence[str], noun: str) -> str:
        """The same in a few words, below the image; each of them is a `Facts.ANNOTATED` or a `Facts.FOUND`, the noun."""


class Report(Protocol):
    """What the evaluation's report shows beside what every task's does."""

    RANKED_BY: str  # a sentence: how `score_image` counts
    SHOWN_SCORE: float  # the least score of the results that are drawn

    def charts(self, truth: Any, results: Any, classes: Sequence[str]) -> list[Any]: ...
    def confusion(self, truth: Any, results: Any) -> Confusion: ...
    def score_image(self, truth: Sequence[Any], results: Sequence[Any], classes: Sequence[str]) -> ImageScore: ...
    def sum_up(self, scores: Sequence[ImageScore]) -> str:
        """All images' scores in words, without a full stop."""

    def image_charts(self, scores: Sequence[ImageScore]) -> list[Any]:
        """Charts of all images' scores; none where they say nothing."""


def _part(name: str) -> Any:
    return property(lambda task: load_part(task.name, name))


@dataclass(frozen=True, slots=True)
class Task:
    """A task by its name; parts are imported when they are asked for."""

    name: str
    facts: ClassVar[Facts] = _part("facts")
    data: ClassVar[Data] = _part("data")
    fit: ClassVar[Fit] = _part("fit")
    predict: ClassVar[Predict] = _part("predict")
    scoring: ClassVar[Scoring] = _part("scoring")
    draw: ClassVar[Draw] = _part("draw")
    report: ClassVar[Report] = _part("report")


# Part -> the protocol that it keeps to.
_CONTRACT: Final = {part: get_args(hint)[0] for part, hint in get_type_hints(Task).items() if part != "name"}


def load_part(task: str, part: str) -> Any:
    """The module that is one part of a task.

    Raises:
        UnknownTaskError: neither we nor the users have such a task, or it has no such part.
    """
    for name in _modules(task, part):
        try:
            if (module := try_import(name)) is not None:
                return module
        except Exception as error:
            raise UnknownTaskError(
                f"{name.replace('.', '/')}.py cannot be imported: {type(error).__name__}: {clause(error)}. Correct it."
            ) from error
    raise UnknownTaskError(
        f"There is no task {task!r} with a part {part}: neither sightline/tasks/{task}/{part}.py nor "
        f"custom/tasks/{task}/{part}.py is in the helper code.{nearest(task, OURS)}"
    )


def try_import(name: str) -> Any:
    """A module, or None when there is none of that name; what goes wrong within it is raised."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and imports what is not
        return None


def _modules(task: str, *parts: str) -> list[str]:
    """Dotted names of parts of a task, wherever they may lie."""
    return [f"{home}.tasks.{task}.{part}" for part in parts for home in HOMES]


def part_names(task: str, step: str) -> list[str]:
    """Dotted names of the parts of a task that a step asks for, wherever they may lie."""
    return _modules(task, *PARTS[step])


def computing_parts(task: str) -> list[str]:
    """Dotted names of the parts of a task that compute a model, wherever they may lie."""
    return _modules(task, "fit", "scoring")


def require_task(task: str) -> None:
    """Make sure that a task has all its parts, each with what the contract names.

    Only facts and data are imported: where versions are published there may be no torch, which others need. What others
    define is read from their text.

    Raises:
        UnknownTaskError: names what is missing, or the error that facts or data raise when they are imported.
    """
    load_part(task, "facts")
    annotated_by = getattr(load_part(task, "data"), "ANNOTATED_BY", None)
    if annotated_by not in ("shapes", "flags"):
        raise UnknownTaskError(
            f"The task {task}'s data.py must set ANNOTATED_BY to shapes or flags, not {annotated_by!r}."
        )
    if missing := [f"{part}.py" for part in sorted(_CONTRACT) if not _file_of(task, part)]:
        raise UnknownTaskError(f"The task {task} lacks {', '.join(missing)}; see sightline/tasks/task.py.")
    for part, contract in _CONTRACT.items():
        if lacking := _lacking(task, part, contract):
            raise UnknownTaskError(
                f"The task {task}'s {part}.py lacks {', '.join(lacking)}; see class {contract.__name__} in sightline/tasks/task.py."
            )


def is_known(task: str) -> bool:
    """Whether there is a task of this name."""
    return task.isidentifier() and bool(_file_of(task, "facts"))


def _file_of(task: str, part: str) -> str:
    """The file of a part, the users' own first; empty when there is none."""
    for name in _modules(task, part):
        with contextlib.suppress(ModuleNotFoundError):
            if (found := importlib.util.find_spec(name)) and found.origin:
                return found.origin
    return ""


def _lacking(task: str, part: str, contract: type) -> list[str]:
    """What a contract names and a part's text does not define. A part that takes over all of another is believed."""
    defined: set[str] = set()
    for node in ast.walk(ast.parse(Path(_file_of(task, part)).read_bytes())):
        if isinstance(node, ast.ImportFrom | ast.Import):
            defined |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    names = {*contract.__annotations__, *vars(contract)}
    return [] if "*" in defined else sorted(name for name in names - defined if not name.startswith("_"))


def headlines_of(values: Mapping[str, Any], task: str = "") -> list[str]:
    """The metrics among these that their task (empty when unknown) shows first; all of them when no task knows any."""
    for known in filter(None, (task, *OURS)):
        with contextlib.suppress(UnknownTaskError):  # it was frozen with a run, and is gone from the live code
            if found := [name for name in Task(known).facts.HEADLINES if values.get(name) is not None]:
                return found
    return [name for name, value in values.items() if value is not None]
