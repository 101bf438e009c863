"""Whether what the omitted steps would have made is given: said before anything runs, here or on a cluster."""

from collections.abc import Collection, Mapping
from typing import Any

from components.parameters import CANDIDATE_MODELS, DATASET_VERSION, MODEL, RECIPE, TEST_IMAGES
from laptop.compiling import require_work


def require_inputs(chosen: Collection[str], values: Mapping[str, Any]) -> None:
    """Refuse a choice of steps that misses what an omitted one would have given, or is given what a chosen one makes.

    Args:
        chosen: the steps.
        values: by parameter; one that is not there has its default.

    Raises:
        SightlineError: names the option to give, or to leave out.
    """
    from sightline.errors import SightlineError

    version, recipe, model, candidates, images = (
        each.value_in(values) or each.default
        for each in (DATASET_VERSION, RECIPE, MODEL, CANDIDATE_MODELS, TEST_IMAGES)
    )
    steps = set(chosen) - {"snapshot"}
    require_work(steps)
    if "record" not in steps and reads_dataset(steps, images) and not version:
        raise SightlineError(
            "The step record is left out: say which dataset version to use with --dataset-version (like v0.1.0)."
        )
    if "record" in steps and version:
        raise SightlineError(
            f"--dataset-version {version} is for runs without record, which makes a dataset version of its "
            "own. Leave the option out, or record out of --steps."
        )
    if "record" not in steps and recipe:
        raise SightlineError(
            f"The recipe ({', '.join(recipe)}) is for runs with record, and --steps leaves that out. Add it, or leave "
            "out --recipe, --group-by and --stratify."
        )
    if "train" in steps and model:
        raise SightlineError(
            "--model is for runs without train, which makes a model of its own. Compare a further model with "
            "--candidate URI, or leave train out of --steps."
        )
    if "train" not in steps:
        if "evaluate" in steps and not (model or candidates):
            raise SightlineError("The step train is left out: say which model to evaluate with --model URI.")
        if "test" in steps and "evaluate" not in steps and not model:
            raise SightlineError("The steps train and evaluate are left out: say which model to test with --model URI.")


def reads_dataset(steps: Collection[str], images: str) -> bool:
    """Whether steps need a dataset version.

    Args:
        steps: those that are chosen.
        images: what test is to try instead of the test split; empty for that.
    """
    return bool({"train", "evaluate"} & set(steps)) or ("test" in steps and not images)
