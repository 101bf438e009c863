"""Where in the helper code configs and recipes lie: the users' own in `custom/`, which no upgrade touches, before ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

CONFIGS: Final = (Path("custom", "configs"), Path("configs"))
RECIPES: Final = (Path("custom", "recipes"), Path("configs", "categories"))


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
