"""What is asked for, and what of it is refused before any step runs: here, or some of it on a cluster, too."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from components.parameters import (
    ANNOTATION_VERSION,
    CANDIDATE_MODELS,
    CATEGORY,
    CONFIG,
    DATASET_VERSION,
    DEVICE,
    EPOCHS,
    MODEL,
    OVERRIDES,
    PRETRAINED,
    RECIPE,
    RESUME_FROM,
    SELECT_BY,
    TEST_IMAGES,
    Parameter,
)
from laptop.compiling import require_work
from laptop.smoke import is_smoke_run
from sightline.errors import SightlineError
from sightline.settings import Settings, read_settings
from sightline.steps.snapshot.check import Asked
from sightline.versions import check_category

IMAGES = {"data": {"snapshot", "record"}, "train": {"train", "evaluate", "test"}}  # -> the steps that run in it


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

    Raises a SightlineError for what is missing or does not exist, a ModuleNotFoundError for a package that the steps
    need where they do not run in their images.
    """
    require_inputs(request.steps, request.values)
    runs_models = bool(IMAGES["train"] & set(request.steps))
    if not in_containers:
        # What tells the environment of `make setup` from that of `make setup-submit`.
        for package in ("numpy", "torch") if runs_models else ("numpy",):
            if find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    _require_names(request)
    device = request.value(DEVICE)
    if device not in ("", "cpu") and runs_models and not in_containers:
        from sightline.processes.devices import choose_device

        choose_device(device)


def asked_of(values: Mapping[str, Any]) -> Asked:
    """What the parameters' values ask for, as snapshot looks at it; those that are not given have their defaults."""
    parameters = (CATEGORY, CONFIG, RECIPE, OVERRIDES, SELECT_BY, DEVICE, PRETRAINED, RESUME_FROM)
    return Asked(*(each.default if (value := each.value_in(values)) is None else value for each in parameters))


def require_inputs(chosen: Collection[str], values: Mapping[str, Any]) -> None:
    """Refuse steps that miss what an omitted one would have given, or are given what a chosen one makes."""
    parameters = (DATASET_VERSION, RECIPE, MODEL, CANDIDATE_MODELS, TEST_IMAGES, PRETRAINED, RESUME_FROM)
    version, recipe, model, candidates, images, pretrained, origin = (
        each.value_in(values) or each.default for each in parameters
    )
    require_work(chosen)
    record, train, evaluate, test = (step in chosen for step in ("record", "train", "evaluate", "test"))
    if is_smoke_run(values) and not record:
        wrong = "A smoke test (--smoke) needs the step record, which chooses its images. Add record to --steps, or leave --smoke out."
    elif not record and reads_dataset(chosen, images) and not version:
        wrong = "The step record is left out: say which dataset version to use with --dataset-version (like v0.1.0)."
    elif record and version:
        wrong = (
            f"--dataset-version {version} is for runs without record, which makes a dataset version of its "
            "own. Leave the option out, or record out of --steps."
        )
    elif recipe and not record:
        wrong = (
            f"The recipe ({', '.join(recipe)}) is for runs with record, and --steps leaves that out. Add it, or leave "
            "out --recipe, --group-by and --stratify."
        )
    elif (pretrained or origin) and not train:
        option = f"--resume-from {origin}" if origin else f"--pretrained {pretrained}"
        wrong = f"{option} is for runs with train, and --steps leaves that out. Add it, or leave the option out."
    elif origin and is_smoke_run(values):
        wrong = f"--resume-from {origin} goes on with a whole training, and --smoke tries a new one of one epoch. Leave one of them out."
    elif train and model:
        wrong = (
            "--model is for runs without train, which makes a model of its own. Compare a further model with "
            "--candidate URI, or leave train out of --steps."
        )
    elif evaluate and not (train or model or candidates):
        wrong = "The step train is left out: say which model to evaluate with --model URI."
    elif test and not (train or evaluate or model):
        wrong = "The steps train and evaluate are left out: say which model to test with --model URI."
    else:
        return
    raise SightlineError(wrong)


def reads_dataset(steps: Collection[str], images: str) -> bool:
    """Whether steps need a dataset version, of which test reads none where it is given images to try."""
    return bool({"train", "evaluate"} & set(steps)) or ("test" in steps and not images)


def _require_names(request: Request) -> None:
    """Look at what the options name, as snapshot and the steps do later: a version, config, key, metric, device, folder."""
    from sightline.models.weights.chosen import find_weights, require_there
    from sightline.processes.devices import check_device
    from sightline.services.runs.origins import find_origin, require_more, require_same_task
    from sightline.steps.snapshot.check import (
        check_beginning,
        check_recipe,
        check_scores,
        check_training,
        planned_epochs,
    )
    from sightline.steps.snapshot.outside import require_images

    settings = read_settings()
    live = (settings.volume / "code").resolve()
    asked = asked_of(request.values)
    check_category(asked.category)
    check_device(asked.device)
    check_beginning(asked)
    if "test" in request.steps:
        require_images(request.value(TEST_IMAGES))
    if "record" in request.steps and asked.recipe:
        check_recipe(live, asked)
    found = _find_version(settings, request)
    if found is None or asked.is_usual:
        return  # what nobody named snapshot looks at alone
    version, task = found
    if "train" in request.steps:
        config = check_training(live, asked, task, f"{asked.category} {version}")
        if asked.resume_from:
            origin = find_origin(settings, asked.resume_from, asked.category)
            require_same_task(origin, task)
            require_more(origin, planned_epochs(live, config, asked.overrides or {}, request.value(EPOCHS)))
        elif where := find_weights(live, config, asked.overrides or {}, asked.pretrained):
            require_there(where)
    check_scores(live, asked, task)


def _find_version(settings: Settings, request: Request) -> tuple[str, str] | None:
    """The version that is worked on and its task; None for none."""
    from sightline.services.versioning.datasets import find_dataset
    from sightline.steps.snapshot.start import find_annotation

    category = request.value(CATEGORY)
    if "record" in request.steps:
        version, _, task = find_annotation(settings, category, request.value(ANNOTATION_VERSION))
        return version, task
    if not reads_dataset(request.steps, request.value(TEST_IMAGES)):
        return None
    dataset = find_dataset(settings, category, request.value(DATASET_VERSION))
    return dataset.version, dataset.task
