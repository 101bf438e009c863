"""Values that a run sets in a config, by dotted keys. Without mmengine, so that a run can be told at its start what is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sightline.errors import ConfigError, nearest

UNKNOWN: Final = object()
"""Stands for a value that only running the config would tell: nobody knows what is in it."""


def override(values: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key in nested dicts and lists, in place.

    Raises:
        ConfigError: there is no such key; names the nearest.
    """
    add = key.startswith("+")
    *parents, last = key.removeprefix("+").split(".")
    node: Any = values
    for depth, part in enumerate(parents):
        node = node[_find(node, part, parents[:depth], key)]
        if node is UNKNOWN:
            return
    if add and isinstance(node, dict) and last not in node:
        node[last] = _like(None, value)
        return
    if add and isinstance(node, list) and last == str(len(node)):
        node.append(_like(None, value))
        return
    key_found = _find(node, last, parents, key)
    old = node[key_found]
    if old is UNKNOWN:
        return
    if isinstance(value, Mapping) and isinstance(old, dict) and "type" not in value:
        for inner, inner_value in value.items():
            mark = "+" if add else ""
            override(values, mark + ".".join([*parents, last, str(inner)]), inner_value)
    else:
        node[key_found] = _like(old, value)


def _like(old: Any, value: Any) -> Any:
    """An override as the config would have written it.

    KFP hands every number in a dict on as a float, and JSON knows no tuples, on which mmcv insists.
    """
    if isinstance(value, float) and value.is_integer() and not isinstance(old, float):
        return int(value)
    if isinstance(value, list):
        olds = list(old) if isinstance(old, list | tuple) and old else [None]
        items = [_like(olds[min(index, len(olds) - 1)], item) for index, item in enumerate(value)]
        return tuple(items) if isinstance(old, tuple) else items
    if isinstance(value, dict):
        return {name: _like(old.get(name) if isinstance(old, dict) else None, item) for name, item in value.items()}
    return value


def _find(node: Any, part: str, above: Sequence[str], key: str) -> Any:
    """The dict key or list index that `part` names in `node`."""
    where = ".".join(above) or "the config"
    if isinstance(node, dict):
        if part in node:
            return part
        raise ConfigError(
            f"The config has no key {key!r}: {where} has no {part!r}.{nearest(part, map(str, node))} "
            f"To add a new key write '+{key.removeprefix('+')}'."
        )
    if isinstance(node, list | tuple):
        if part.isdecimal() and int(part) < len(node) and isinstance(node, list):
            return int(part)
        whole = f" Set {where} as a whole." if isinstance(node, tuple) else ""
        raise ConfigError(
            f"The config has no key {key!r}: {where} is a list of {len(node)} (0 to {len(node) - 1}).{whole}"
        )
    raise ConfigError(f"The config has no key {key!r}: {where} is {node!r} and has nothing inside. Set {where} itself.")
