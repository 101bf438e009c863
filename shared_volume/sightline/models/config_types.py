"""What a config names by `type`, looked at without mmengine: a name that looks misspelt is known before anything runs."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sightline.errors import ConfigError, did_you_mean
from sightline.models.config_keys import dicts_within
from sightline.models.registered import NAMES

TASKS: Final = Path("sightline", "tasks")  # code that may register further types; `custom` may, too
CONFIGS: Final = Path("custom", "configs")  # they name types, and register none
SCOPES: Final = ("mmengine", "mmdet", "mmcv")
"""What may stand before a registered name; any other name with dots is imported from where it says."""


def require_spelt_types(code: Path, values: Mapping[str, Any], trees: Iterable[ast.Module]) -> None:
    """Refuse a type that looks misspelt by a ConfigError, which names its key and the nearest type.

    A name that is like no other is left to train, where mmengine knows. The tasks in the helper code `code` may register types
    of their own, and the config's files, whose `trees` these are, may define classes.
    """
    unknown = [(key, name) for key, name in named_types(values) if _plain(name) not in NAMES]
    if not unknown:
        return
    # Code of another age may have it elsewhere.
    library = TASKS if (code / TASKS).is_dir() else TASKS.parent
    paths = [path for home in (library, Path("custom")) for path in sorted((code / home).rglob("*.py"))]
    sources = [path.read_text(errors="replace") for path in paths if not path.is_relative_to(code / CONFIGS)]
    words = {word for text in sources for word in re.findall(r"\w+", text)}
    classes = {name for text in sources for name in re.findall(r"^\s*class (\w+)", text, re.MULTILINE)}
    classes |= {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for key, name in unknown:
        plain = _plain(name)
        if "." not in plain and plain not in words | classes and did_you_mean(plain, NAMES | classes):
            raise unknown_type(key, name, NAMES | classes)


def unknown_type(key: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error about a type that is none of those that are known."""
    hint = did_you_mean(_plain(name), known)
    return ConfigError(
        f"{key} is {name!r}, and nothing that fits there is registered by that name.{hint} A type of your own belongs in "
        "custom/tasks, and a part of mmengine or mmdet is spelt as in its documentation."
    )


def named_types(values: Any) -> Iterator[tuple[str, str]]:
    """Every dotted key that ends in `type` and its value, where that is a text."""
    for key, node in dicts_within(values):
        if isinstance(node.get("type"), str):
            yield f"{key}.type".lstrip("."), node["type"]


def _plain(name: str) -> str:
    """Without the scope before it."""
    scope, _, rest = name.partition(".")
    return rest if scope in SCOPES and rest else name
