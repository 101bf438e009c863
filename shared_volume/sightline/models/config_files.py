"""What a config says, read from its files without running them: what is misspelt is known before anything runs.

Snapshot's image has no mmengine. What only running the file would tell (a loop, a call) is left open, and with it every
key inside.
"""

import ast
import builtins
import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sightline.errors import ConfigError
from sightline.models.config_form import OWN, RUNNER, has_short_keys, is_theirs, with_overrides
from sightline.models.config_keys import HARMLESS, READ, UNKNOWN, refuse_unread, refuse_unsupported
from sightline.models.config_types import require_spelt_types
from sightline.models.mmdet_index import PREFIX, find
from sightline.models.shipped import shipped_chain, shipped_file
from sightline.services.runs.config_chains import config_chain, modules_imported, shipped_in

ALIKE: Final = 0.9  # so much of two names is the same when one is the other, misspelt
NUMBERS: Final = {
    **dict.fromkeys(("train_batch_size", "max_epochs", "max_iters", "val_interval"), (int, 1)),
    **dict.fromkeys(("num_workers", "seed", "early_stopping.patience"), (int, 0)),
    **dict.fromkeys(("checkpoint_seconds", "early_stopping.min_delta", "optim_wrapper.optimizer.lr"), (float, 0)),
}
"""Dotted key of the steps' own -> which kind of number it must be, and the least."""


def check_config(code: Path, config: str, task: str, overrides: Mapping[str, Any]) -> None:
    """Make sure that a config has the keys that a run sets, none that nothing reads, and no type that looks misspelt.

    `code` is the helper code, live or frozen; the task's own may read further keys. The overrides are those of
    `sightline.models.config.load_config`.

    Raises:
        ConfigError: there is no such config, or it inherits what is not there; a key or a type, which names it and the
            nearest; or what must be a number and is none.
    """
    files = config_chain(code, config)
    modules_imported(code, config)
    for name in shipped_in(code, config):
        find(name)
    if not files:  # it is mmdet's, and only where that is installed can more be told
        return
    trees = {file: ast.parse((code / file).read_bytes()) for file in files}
    written = _read(files[0], trees)
    if written is None:
        return
    names_of_its_own = is_theirs(written) and not has_short_keys(written)
    if is_theirs(written):
        _require_spelt(files[0], written)
    known = (*RUNNER, *OWN) if is_theirs(written) else ()
    values = with_overrides(files[0], written, overrides)
    _require_numbers(files[0], values)
    refuse_unsupported(files[0], values)
    if not names_of_its_own:
        own = code / "custom" / "tasks" / task
        _require_read(files[0], {**written, **values}, known, trees.values(), own)
    require_spelt_types(code, values, trees.values())


def read_values(code: Path, config: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says, with values that a run sets, as far as its files tell it; UNKNOWN stands for what they do not.

    Empty where they tell nothing, as those of mmdet do where its package is not installed. Errors as in `check_config`.
    """
    files = config_chain(code, config)
    trees = {file: ast.parse((code / file).read_bytes()) for file in files}
    for name in shipped_in(code, config):
        if first := shipped_file(name):
            trees |= {file: ast.parse(file.read_bytes()) for file in shipped_chain(first)}
    start = files[0] if files else shipped_file(config)
    if start is None or start not in trees:
        return {}
    written = _read(start, trees)
    return with_overrides(files[0] if files else config, written, overrides) if written else {}


def _require_spelt(file: Path, values: Mapping[str, Any]) -> None:
    """Refuse a name in a config of mmdet's form that looks like a misspelt key; others are the config's own."""
    for name in values:
        if name not in (*RUNNER, *OWN) and (like := difflib.get_close_matches(name, RUNNER, 1, ALIKE)):
            raise ConfigError(f"{file}: nothing reads the key {name!r}. Did you mean {like[0]!r}?")


def _require_numbers(file: Path, values: Mapping[str, Any]) -> None:
    for key, (kind, least) in NUMBERS.items():
        value: Any = values
        for part in key.split("."):
            value = value.get(part, UNKNOWN) if isinstance(value, Mapping) else UNKNOWN
        if value is UNKNOWN:
            continue
        fits = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        if not fits or not value >= least:
            words = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{file}: {key} is {value!r}, and must be {words} of at least {least}.")


def _require_read(
    file: Path, values: Mapping[str, Any], more: Iterable[str], trees: Iterable[ast.Module], task: Path
) -> None:
    """Refuse a key that would be dropped silently, unless it says nothing; keys in `more` are read too."""
    # Names that the files themselves read, for values that stand in several places.
    nodes = [node for tree in trees for node in ast.walk(tree)]
    mentioned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    mentioned |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    sources = [path.read_text(errors="replace") for path in sorted(task.rglob("*.py"))]
    for key, value in values.items():
        known = key in READ or key in HARMLESS or key in mentioned or key in more
        if not (known or any(re.search(rf"\b{re.escape(key)}\b", text) for text in sources)):
            refuse_unread(file, key, value)


def _read(file: Path, trees: Mapping[Path, ast.Module]) -> dict[str, Any] | None:
    """A config's values with those it inherits, as mmengine merges them; None when that cannot be told."""
    values: dict[str, Any] = {}
    bases: list[str] = []
    for statement in trees[file].body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="_base_")], value=value):
                named = ast.literal_eval(value)
                bases = [named] if isinstance(named, str) else list(named)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = _value(value, values)
            case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef():
                pass
            case ast.With():  # mmengine's other kind of config, made of imports
                return None
            case _:
                names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} - set(dir(builtins))
                values |= dict.fromkeys(names, UNKNOWN)
    inherited: dict[str, Any] = {}
    for base in bases:
        inherits = shipped_file(base) if base.startswith(PREFIX) else Path(os.path.normpath(file.parent / base))
        below = _read(inherits, trees) if inherits is not None and inherits in trees else None
        if below is None:
            return None
        inherited |= below
    return {name: value for name, value in _merged(inherited, values).items() if not name.startswith("_")}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in new.items():
        before = merged.get(name)
        if not isinstance(value, dict):
            merged[name] = value
        elif value.get("_delete_"):
            merged[name] = {key: inner for key, inner in value.items() if key != "_delete_"}
        elif isinstance(before, dict):
            merged[name] = _merged(before, value)
        elif isinstance(before, list) and all(str(key).isdecimal() for key in value):
            merged[name] = UNKNOWN  # changes of single items
        else:
            merged[name] = before if before is UNKNOWN else value
    return merged


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names.get(name, UNKNOWN)
        case ast.List(elts=items) | ast.Tuple(elts=items) if not any(isinstance(item, ast.Starred) for item in items):
            values = [_value(item, names) for item in items]
            return values if isinstance(node, ast.List) else tuple(values)
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            return {key.value: _value(value, names) for key, value in zip(keys, values, strict=True)}  # type: ignore[union-attr]
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words) if all(word.arg for word in words):
            return {str(word.arg): _value(word.value, names) for word in words}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return UNKNOWN
