"""What `local` is asked for, and what of it is refused before any step runs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from components.parameters import (
    ANNOTATION_VERSION,
    CATEGORY,
    CONFIG,
    DATASET_VERSION,
    DEVICE,
    OVERRIDES,
    RECIPE,
    SELECT_BY,
    TEST_IMAGES,
    Parameter,
)
from laptop.inputs import reads_dataset, require_inputs

if TYPE_CHECKING:
    from sightline.settings import Settings

IMAGES = {"data": {"snapshot", "record"}, "train": {"train", "evaluate", "test"}}
"""Image -> the steps that run in it."""

NEEDED = ("numpy", "torch")
"""What tells the environment of `make setup` from that of `make setup-submit`; the second is for the steps that run a model."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to run: some of the steps, and values of the pipeline's parameters by name; others keep their defaults."""

    steps: tuple[str, ...]
    values: Mapping[str, Any]

    def value(self, parameter: Parameter) -> Any:
        """The parameter's value."""
        return self.values.get(parameter.name, parameter.default)


def require_sense(request: Request, in_containers: bool) -> None:
    """Look at a request before its first step.

    Args:
        request: for the run.
        in_containers: whether its steps run in their images, which have what they need.

    Raises:
        SightlineError: something that it needs is missing, or something that it names does not exist.
        ModuleNotFoundError: a package that the steps need is not installed here.
    """
    require_inputs(request.steps, request.values)
    if not in_containers:
        _require_packages(request.steps)
    require_names(request)
    device = request.value(DEVICE)
    if device not in ("", "cpu") and not in_containers and IMAGES["train"] & set(request.steps):
        from sightline.processes.devices import choose_device

        choose_device(device)


def _require_packages(steps: Collection[str]) -> None:
    """Fail before the first step where `make setup-submit` installed too little.

    Raises:
        ModuleNotFoundError: names the package.
    """
    for package in NEEDED if IMAGES["train"] & set(steps) else NEEDED[:1]:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def require_names(request: Request) -> None:
    """Look at what the options name, as snapshot and the steps do later.

    Raises:
        SightlineError: a category, version, config, key, metric, device or folder of images that does not exist; names the
            nearest.
    """
    from sightline.processes.devices import check_device
    from sightline.settings import read_settings
    from sightline.steps.snapshot.check import Asked, check_recipe, check_scores, check_training
    from sightline.steps.snapshot.outside import require_images
    from sightline.versions import check_category

    settings = read_settings()
    live = (settings.volume / "code").resolve()
    asked = Asked(*(request.value(each) for each in (CATEGORY, CONFIG, RECIPE, OVERRIDES, SELECT_BY, DEVICE)))
    check_category(asked.category)
    check_device(asked.device)
    if "test" in request.steps:
        require_images(request.value(TEST_IMAGES))
    if "record" in request.steps and asked.recipe:
        check_recipe(live, asked)
    found = _find_version(settings, request)
    if found is None or asked.is_usual:
        return  # what nobody named snapshot looks at alone
    version, task = found
    if "train" in request.steps:
        check_training(live, asked, task, f"{asked.category} {version}")
    check_scores(live, asked, task)


def _find_version(settings: "Settings", request: Request) -> tuple[str, str] | None:
    """The version that is worked on and its task; None for none."""
    from sightline.references import DETECTION
    from sightline.services.versioning.datasets import find_dataset
    from sightline.steps.snapshot.find import find_annotation, find_task

    category = request.value(CATEGORY)
    if "record" in request.steps:
        version, _ = find_annotation(settings, category, request.value(ANNOTATION_VERSION))
        return find_task(settings, category, "annotation", version) or (version, DETECTION)
    if not reads_dataset(request.steps, request.value(TEST_IMAGES)):
        return None
    dataset = find_dataset(settings, category, request.value(DATASET_VERSION))
    return dataset.version, dataset.task
