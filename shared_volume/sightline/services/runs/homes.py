"""Configs and recipes in the helper code: where they lie, and which keys of a recipe record does not read.

The users' own lie in `custom/`, which no upgrade touches, and come before ours. The keys that record does not read reach
neither its release nor a dataset version.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from sightline.errors import SightlineError, clause

CONFIGS: Final = (Path("custom", "configs"), Path("configs"))
RECIPES: Final = (Path("custom", "recipes"), Path("configs", "categories"))
SHIPPED: Final = "mmdet::"  # before the name of a config that lies in mmdet's package
METRICS: Final = "metrics"  # the recipe's key for names of metrics beside the task's own, for evaluate
NOT_RECORDED: Final = (METRICS,)
METRICS_FILE: Final = Path("metrics.json")  # in evaluate's release: the metrics that it computes beside its task's own


class RecipeKeyError(SightlineError):
    """A key that record does not read has a value that cannot be used."""


def config_file(code: Path, name: str) -> Path:
    """The file of a model config (with or without .py), relative to the helper code; where ours would lie when there is none."""
    files = [home / f"{name.removesuffix('.py')}.py" for home in CONFIGS]
    return next((file for file in files if (code / file).is_file()), files[-1])


def config_names(code: Path) -> Iterator[str]:
    """The names of all configs."""
    for home in CONFIGS:
        yield from (path.stem for path in sorted((code / home).glob("*.py")))


def recipe_file(code: Path, category: str) -> Path | None:
    """A category's recipe, relative to the helper code, if it has one."""
    files = [home / f"{category}.yaml" for home in RECIPES]
    return next((file for file in files if (code / file).is_file()), None)


def recipe_folder(code: Path, category: str) -> Path:
    """The folder of what a category's recipe names, relative to the helper code: beside the recipe, where there is one."""
    if recipe := recipe_file(code, category):
        return recipe.with_suffix("")
    folders = [home / category for home in RECIPES]
    return next((folder for folder in folders if (code / folder).is_dir()), folders[-1])


def read_metrics(code: Path, category: str) -> tuple[str, ...]:
    """The metrics that a category's recipe names.

    Raises:
        RecipeKeyError: they are no list of names, the recipe is no YAML, or a file that is not the recipe names some.
    """
    recipe = recipe_file(code, category)
    _require_no_others(code, category, recipe)
    if recipe is None:
        return ()
    try:
        content = load_yaml((code / recipe).read_bytes())
    except ValueError as error:
        raise RecipeKeyError(f"{recipe}: not YAML: {clause(error)}. Correct it there.") from None
    named = (content.get(METRICS) if isinstance(content, dict) else None) or ()
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) and name.isidentifier() for name in named):
        raise RecipeKeyError(
            f"{recipe}: {METRICS}: {named!r} is not a list of metric names, like [f1]. Correct it there."
        )
    return tuple(dict.fromkeys(named))


def _require_no_others(code: Path, category: str, recipe: Path | None) -> None:
    """Refuse metrics in a file that looks like the category's recipe and is read by nobody."""
    for other in (home / f"{category}{ending}" for home in RECIPES for ending in (".yaml", ".yml", ".json")):
        if other == recipe or not (code / other).is_file():
            continue
        with contextlib.suppress(ValueError):
            content = load_yaml((code / other).read_bytes())
            if isinstance(content, dict) and METRICS in content:
                read = recipe or RECIPES[0] / f"{category}.yaml"
                raise RecipeKeyError(
                    f"{other}: {METRICS} counts only in the category's recipe, {read}, and this is another file. Write it there."
                )


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


def frozen_metrics(release: Path) -> tuple[str, ...]:
    """The metrics that a release was frozen with."""
    path = release / METRICS_FILE
    return tuple(json.loads(path.read_text())) if path.is_file() else ()


def load_yaml(text: bytes) -> Any:
    """What YAML holds; a ValueError, in one line, for what is none, too deep, or has impossible dates or numbers."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
