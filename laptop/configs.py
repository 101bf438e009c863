"""`pipeline.py configs`: which configs there are, what one says in full, and a beginning for one's own."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from laptop import LIBRARY
from laptop.tables import print_table
from sightline.errors import ConfigError, SightlineError
from sightline.models import mmdet_index
from sightline.models.config_files import read_values
from sightline.models.shipped import config_path
from sightline.references import DETECTION
from sightline.services.runs.config_chains import config_chain, config_task
from sightline.services.runs.homes import CONFIGS, SHIPPED

CUSTOM, OURS = CONFIGS
MOST_MEASURED: Final = 12  # so many models are built to count their parameters; more would take minutes
UNKNOWN: Final = "–"


class Row(NamedTuple):
    """One config."""

    name: str
    whose: str
    tasks: str
    weights: str


def list_configs(words: Sequence[str]) -> int:
    """Print the configs in whose name, task or data each word stands; without a word only ours and the users' own."""
    own = list(_own(" ".join(words).lower().split()))
    theirs = mmdet_index.search(" ".join(words)) if words else ()
    rows = own + [
        Row(f"{SHIPPED}{config.name}", "mmdet", ", ".join(config.tasks) or UNKNOWN, "yes" if config.weights else "no")
        for config in theirs
    ]
    if not rows:
        raise ConfigError(
            f"No config has {' and '.join(words)} in its name, task or data. List ours: python pipeline.py configs"
        )
    measured = _millions([row.name for row in rows])
    table = [(row.name, row.whose, row.tasks, measured.get(row.name, UNKNOWN), row.weights) for row in rows]
    print_table(("config", "whose", "task", "million parameters", "trained weights"), table)
    if not words:
        print(
            f"\nand {len(mmdet_index.names())} of mmdet {mmdet_index.VERSION}: python pipeline.py configs WORD, such as rtmdet"
        )
    if find_spec("mmengine") is None:
        print("Parameters are counted where mmengine is installed.")
    elif len(rows) > MOST_MEASURED:
        print(f"Parameters are counted for up to {MOST_MEASURED} configs: give another word.")
    return 0


def show_config(name: str) -> int:
    """Print what a config says with all that it inherits."""
    path = _path(name)
    if find_spec("mmengine") is None:
        raise SightlineError(
            f"{name} lies in {path}; to put together what it inherits takes mmengine, which this environment lacks. Run the same in "
            "the environment of `local` (make setup)."
        )
    from mmengine.config import Config

    print(Config.fromfile(path, import_custom_modules=False).pretty_text.rstrip())
    return 0


def copy_config(name: str) -> int:
    """Begin a config of the user's own: a file in custom/configs that inherits this one."""
    known = not name.startswith(SHIPPED)
    if known:
        config_chain(LIBRARY, name)
        stem = Path(name).stem
        file = next(home for home in (OURS, CUSTOM) if (LIBRARY / home / f"{stem}.py").is_file()) / f"{stem}.py"
        base = os.path.relpath(LIBRARY / file, LIBRARY / CUSTOM)
    else:
        shipped = mmdet_index.find(name)
        stem = shipped.path.rpartition("/")[2].removesuffix(".py")
        base = f"{SHIPPED}{shipped.path.removeprefix(f'{mmdet_index.CONFIGS}/')}"
    target = LIBRARY / CUSTOM / f"{stem}.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = f'"""{stem}, changed."""\n\n_base_ = "{base}"\n'
    try:
        with target.open("x") as new:
            new.write(text)
    except FileExistsError:
        raise SightlineError(f"{target} is there already. Change that, or rename it first.") from None
    print(
        f"{target} inherits {base}. Write into it what shall differ; python pipeline.py configs show {name} prints what there is."
    )
    if known:
        print(f"It is taken from now on where {stem} is named. Rename it to keep both.")
    return 0


def _path(name: str) -> Path:
    if not name.startswith(SHIPPED):
        config_chain(LIBRARY, name)
    return config_path(LIBRARY, name)


def _own(words: Sequence[str]) -> Iterator[Row]:
    seen: set[str] = set()
    for home, whose in ((CUSTOM, "yours"), (OURS, "Sightline")):
        for path in sorted((LIBRARY / home).glob("*.py")):
            task, weights = UNKNOWN, "no"
            with contextlib.suppress(SightlineError):
                task = config_task(LIBRARY, path.stem) or DETECTION
                weights = read_values(LIBRARY, path.stem, {}).get("load_from") or weights
            if path.stem not in seen and all(word in f"{path.stem} {task}".lower() for word in words):
                seen.add(path.stem)
                yield Row(path.stem, whose, task, weights if isinstance(weights, str) else UNKNOWN)


def _millions(names: Sequence[str]) -> dict[str, str]:
    """Parameters in millions, of models that can be built here."""
    if len(names) > MOST_MEASURED or find_spec("mmengine") is None:
        return {}
    import torch

    from sightline.models.config import load_config
    from sightline.tasks.task import Task

    found = {}
    for name in names:
        with contextlib.suppress(Exception):  # what lacks for this one is told when it is trained
            task = DETECTION if name.startswith(SHIPPED) else config_task(LIBRARY, name) or DETECTION
            config = load_config(_path(name), {}, ("one",))
            with torch.device("meta"):
                model = Task(task).fit.build_model(config)  # type: ignore[attr-defined]
            found[name] = f"{sum(each.numel() for each in model.parameters()) / 1e6:.1f}"
    return found
