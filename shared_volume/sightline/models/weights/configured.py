"""Trained weights that a config itself names: its `load_from`, and modules that would begin with a file of their own."""

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from sightline.errors import ConfigError
from sightline.models import mmdet_index
from sightline.models.config_keys import UNKNOWN, dicts_within
from sightline.models.weights.base import shown

log = logging.getLogger(__name__)

LOAD_FROM: Final = "load_from"
INIT: Final = "init_cfg"
OLD_KEY: Final = "pretrained"  # of backbones; mmdet makes an `init_cfg` of it
TYPES: Final = ("Pretrained", "PretrainedInit")


def load_from(values: Mapping[str, Any]) -> str:
    """What the config begins from as a whole, in the words of `places.parse`; empty for nothing, and for what is not known."""
    named = values.get(LOAD_FROM)
    return named if isinstance(named, str) else ""


def find_inits(values: Mapping[str, Any]) -> dict[str, str]:
    """The dotted key of each module's own file of trained weights -> where that is."""
    return {f"{key}.{name}": where for key, _, name, where in _inits(values)}


def drop_inits(values: Mapping[str, Any]) -> list[str]:
    """Let the modules begin without files of their own, in place. Returns the dotted keys."""
    dropped = []
    for key, node, name, _ in list(_inits(values)):
        others = [each for each in _as_list(node[name]) if not _is_pretrained(each)] if name == INIT else []
        node[name] = others or None
        dropped.append(f"{key}.{name}")
    return dropped


def refuse_inits(config: str, values: Mapping[str, Any]) -> None:
    """Refuse a config whose modules would fetch trained weights by themselves: a ConfigError names the first, and two ways out."""
    found = find_inits(values)
    if not found:
        return
    key, where = next(iter(found.items()))
    without = " ".join(f"--set {each}=null" for each in found)
    raise ConfigError(
        f"The config {config} begins with trained weights of its own: {key} names {shown(where)}, and training fetches nothing by "
        f"itself. Say what to begin from instead ({_published(config)}--pretrained WHERE; docs/weights.md), or begin without: {without}"
    )


def _published(config: str) -> str:
    """The option that begins with what was published for a config of mmdet, where that is one file."""
    if config.startswith(mmdet_index.PREFIX) and len(mmdet_index.find(config).weights) == 1:
        return "--pretrained auto, the weights that were published for it, or "
    return ""


def settle(config: str, values: MutableMapping[str, Any], given: bool) -> None:
    """Make sure that a loaded config fetches nothing by itself, in place; `given` says whether there are weights to begin from.

    Raises:
        ConfigError: it would, or it names weights that snapshot did not see, because only running it tells them.
    """
    if own := not given and load_from(values):
        raise ConfigError(
            f"The config {config} sets load_from = {shown(own)!r} in a way that its text alone does not tell, so that it was not fetched. Name it: "
            f"--pretrained {shown(own)}"
        )
    values.pop(LOAD_FROM, None)
    if not given:
        refuse_inits(config, values)
    elif dropped := drop_inits(values):
        log.info("begins with the given weights instead of those of %s", ", ".join(dropped))


def _inits(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str, str]]:
    """Dotted key of a dict, the dict, which of its keys names a file, and where that is."""
    for key, node in dicts_within(values.get("model"), "model"):
        for each in _as_list(node.get(INIT)):
            if _is_pretrained(each):
                where = each.get("checkpoint")
                yield key, node, INIT, where if isinstance(where, str) else "a file"
                break
        old = node.get(OLD_KEY)
        if old is True or (isinstance(old, str) and old):
            yield key, node, OLD_KEY, str(old)


def _as_list(value: Any) -> list[Any]:
    if value is None or value is UNKNOWN:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_pretrained(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    kind = value.get("type")
    if kind is None:  # some backbones read the file themselves, and want to hear no type
        return bool(value.get("checkpoint"))
    return str(kind).rpartition(".")[2] in TYPES
