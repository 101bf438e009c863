"""A model's config: load it, change values, fit it to a dataset's classes."""

import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sightline.errors import ConfigError, clause, nearest
from sightline.models.config_form import fit_classes, has_short_keys, is_theirs, with_overrides
from sightline.models.config_keys import dicts_within, refuse_unsupported

REQUIRED = ("model", "train_pipeline", "test_pipeline", "train_batch_size", "optim_wrapper")


def load_config(path: Path, overrides: Mapping[str, Any], classes: Sequence[str]) -> Config:
    """Load an mmengine config with those it inherits, change values, and fit its heads to the dataset's classes.

    One of mmdet's form becomes one of ours, and its heads follow the dataset whatever it says.
    `overrides` are dotted key -> value, e.g. `optim_wrapper.optimizer.lr` or `param_scheduler.0.end`. A key that is not there
    is refused, unless it starts with `+`. A dict is merged into a dict, unless it names a `type`. Every `num_classes = None`
    under `model` becomes the number of classes.

    Raises:
        ConfigError: no such file or key, an error in the file, a key that nothing reads, or a head of another number of classes.
    """
    written = _read(path)
    follows = is_theirs(written) and not has_short_keys(written)
    values = with_overrides(path, written, overrides)
    refuse_unsupported(path, values)
    for required in (*REQUIRED, "max_iters" if values.get("max_iters") else "max_epochs"):
        if required not in values:
            raise ConfigError(f"{path} does not set {required!r}; see {path.parent} for configs that do.")
    if follows:
        fit_classes(values["model"], classes)
        return config_from_data(values)
    for name, node in dicts_within(values["model"], "model"):
        if node.get("num_classes", len(classes)) not in (None, len(classes)):
            raise ConfigError(
                f"{name}.num_classes is {node['num_classes']}, but the dataset has {len(classes)} classes "
                f"({', '.join(classes)}). Set it to None in {path.name}: then it follows the dataset."
            )
        if "num_classes" in node:
            node["num_classes"] = len(classes)
    return config_from_data(values)


def config_from_data(values: Mapping[str, Any]) -> Config:
    """A config of plain data (a bundle's, for instance); nothing is read or executed."""
    return Config(dict(values))


def config_text(config: Config) -> str:
    """The config as Python assignments of literals: what a bundle keeps, and what mmengine can load again."""
    values = config.to_dict()
    return "".join(f"{key} = {pprint.pformat(value, width=120, sort_dicts=False)}\n" for key, value in values.items())


def set_epochs(config: Config, epochs: int) -> None:
    """Train for `epochs`, at least 1: what counts epochs (schedules, and hooks that begin something at one) moves along.

    A config that counts iterations counts epochs from then on, and is validated after each.
    """
    if epochs < 1:
        raise ConfigError(f"epochs is {epochs}; train for at least 1.")
    if config.get("max_iters"):
        config.pop("max_iters")
        config.max_epochs, config.val_interval, config.dynamic_intervals = epochs, 1, None
        return
    share = epochs / config.max_epochs
    config.max_epochs = epochs
    for schedule in config.get("param_scheduler") or []:
        if not schedule.get("by_epoch", True):
            continue
        for key, least in (("begin", 0), ("end", 1), ("T_max", 1)):
            if schedule.get(key):
                schedule[key] = max(least, round(schedule[key] * share))
        if "milestones" in schedule:
            schedule["milestones"] = [round(milestone * share) for milestone in schedule["milestones"]]
    if config.get("param_scheduler"):
        config.param_scheduler = [each for each in config.param_scheduler if _lasts(each)]
    for hook in config.get("custom_hooks") or []:
        for key in ("switch_epoch", "num_last_epochs", "begin_epoch"):
            if hook.get(key):
                least = 1 if key == "begin_epoch" else 0  # what begins later than the training, still does
                hook[key] = max(least, round(hook[key] * share))
    if config.get("dynamic_intervals"):
        config.dynamic_intervals = [(round(begin * share), every) for begin, every in config.dynamic_intervals]


def _lasts(schedule: Mapping[str, Any]) -> bool:
    """Whether a schedule has at least one epoch or iteration; mmengine refuses one without, as few epochs can make it."""
    return schedule.get("end") is None or schedule["end"] > schedule.get("begin", 0)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = sorted(other.stem for other in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise ConfigError(f"There is no config {path}.{nearest(path.stem, known)}")
    try:
        return Config.fromfile(path, import_custom_modules=False).to_dict()
    except SyntaxError as error:
        where = f"{error.filename or path}, line {error.lineno}"
        raise ConfigError(f"{path} is not valid Python: {error.msg} ({where}). Correct that line.") from error
    except Exception as error:
        # A config is a program: it can fail in any way.
        raise ConfigError(f"{path} does not load: {type(error).__name__}: {clause(error)}. Correct it.") from error
