"""Which keys of a category's recipe record does not read: they reach neither its release nor a dataset version."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from sightline.errors import SightlineError
from sightline.services.runs.homes import recipe_file

METRICS: Final = "metrics"
"""Names of metrics beside the task's own, for evaluate."""
NOT_RECORDED: Final = (METRICS,)
METRICS_FILE: Final = Path("metrics.json")
"""In evaluate's release: the metrics that it computes beside its task's own."""


class RecipeKeyError(SightlineError):
    """A key that record does not read has a value that cannot be used."""


def read_metrics(code: Path, category: str) -> tuple[str, ...]:
    """The metrics that a category's recipe names; none when it has no recipe.

    Raises:
        RecipeKeyError: they are no list of names, or the recipe is not YAML.
    """
    recipe = recipe_file(code, category)
    if recipe is None:
        return ()
    try:
        content = load_yaml((code / recipe).read_bytes())
    except ValueError as error:
        raise RecipeKeyError(f"{recipe}: not YAML: {error}. Correct it there.") from None
    named = (content.get(METRICS) if isinstance(content, dict) else None) or ()
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) and name.isidentifier() for name in named):
        raise RecipeKeyError(
            f"{recipe}: metrics: {named!r} is not a list of metrics' names, like [f1]. Correct it there."
        )
    return tuple(dict.fromkeys(named))


def keep_stated(recipe: Path) -> None:
    """Rewrite a recipe so that only what record reads can change its bytes: no other key, no comment, no blank line.

    A recipe that is no YAML stays, for record to say what is wrong with it.
    """
    try:
        content = load_yaml(recipe.read_bytes())
    except ValueError:
        return
    if isinstance(content, dict):
        read_by_record = {key: value for key, value in content.items() if key not in NOT_RECORDED}
        recipe.write_text(yaml.safe_dump(read_by_record, sort_keys=False), encoding="utf-8")


def write_metrics(code: Path, names: Sequence[str]) -> None:
    """Leave names of metrics where evaluate looks for them; nothing when there are none."""
    if names:
        (code / METRICS_FILE).write_text(json.dumps(list(names)))


def frozen_metrics(release: Path) -> tuple[str, ...]:
    """The metrics that a release was frozen with."""
    path = release / METRICS_FILE
    return tuple(json.loads(path.read_text())) if path.is_file() else ()


def load_yaml(text: bytes) -> Any:
    """What YAML holds.

    Raises:
        ValueError: it is none, or has a date or number that does not exist, or is too deep; in one line.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
