"""What a config imports by `custom_imports`: found while training, kept as text in the config, and so in each bundle; run again from
there, wherever the bundle is used.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import mmengine.registry
from mmengine.registry import Registry

from sightline.errors import ConfigError, clause
from sightline.services.runs.closure import CUSTOM, reach, read_imports
from sightline.services.runs.config_chains import IMPORTS, imported_names

CODE: Final = "custom_code"  # the config's key: path -> text of each file in `custom` that its imports reach

log = logging.getLogger(__name__)


def import_live(values: Any, shown_as: str) -> None:
    """Import what a config names, and keep the files in `custom` with it, as text.

    Raises:
        ConfigError: a module is not there, or fails; names it.
    """
    names = imported_names(values.get(IMPORTS), shown_as)
    _import(names, shown_as)
    own = [name for name in names if name.split(".")[0] == CUSTOM]
    if own:
        module = sys.modules[own[0]]
        spec = importlib.util.find_spec(own[0])
        levels = len(own[0].split(".")) + (0 if not spec or spec.submodule_search_locations is None else 1)
        root = Path(str(module.__file__)).resolve().parents[levels - 1]
        files = [path.relative_to(root) for path in (root / CUSTOM).rglob("*.py")]
        reached = reach(root, [tuple(name.split(".")) for name in own], read_imports(root, files))
        kept = sorted(file for file in reached if file.parts[0] == CUSTOM and file.suffix == ".py")
        values[CODE] = {file.as_posix(): (root / file).read_text() for file in kept}


def import_kept(config: Mapping[str, Any], shown_as: str) -> None:
    """Import what a bundle's config names, from the text that lies in it: this runs a bundle's code.

    A module that was imported already with another text, of another bundle, is replaced; models that were built of it stay.
    """
    code = dict(config.get(CODE) or {})
    modules = {_module_name(path): (path, text) for path, text in code.items()}
    if any(_text_of(sys.modules.get(name)) != text for name, (_, text) in modules.items()):
        log.info("%s brings code of its own, which runs now: %s", shown_as, ", ".join(code))
        _forget(set(modules))
        finder = _Finder(modules)
        sys.meta_path.insert(0, finder)
        try:
            _import(imported_names(config.get(IMPORTS), shown_as), shown_as)
        finally:
            sys.meta_path.remove(finder)
    else:
        _import(imported_names(config.get(IMPORTS), shown_as), shown_as)


def _import(names: Sequence[str], shown_as: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):
                where = f"which imports {error.name!r}, and no such module is installed here. Install that, or do without it"
            elif name.startswith(f"{CUSTOM}."):
                where = (
                    f"and there is no {name.replace('.', '/')}.py in the helper code. Put it there, or correct the name"
                )
            else:
                where = (
                    "and no such module is installed here. Install its package, or choose a config that does without"
                )
            raise ConfigError(f"{shown_as} imports {name!r} by {IMPORTS}, {where}.") from error
        except Exception as error:
            raise ConfigError(
                f"{shown_as} imports {name!r} by {IMPORTS}, and that fails: {type(error).__name__}: {clause(error)}. Correct it."
            ) from error


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _text_of(module: ModuleType | None) -> str | None:
    if module is None:
        return None
    loader = getattr(module, "__loader__", None)
    if isinstance(loader, _Loader):
        return loader.text
    file = Path(str(getattr(module, "__file__", "")))
    return file.read_text() if file.is_file() else None


def _forget(names: set[str]) -> None:
    """Forget modules, and what they registered."""
    for root in [each for each in vars(mmengine.registry).values() if isinstance(each, Registry)]:
        for registry in (root, *root.children.values()):
            for key, each in list(registry.module_dict.items()):
                if getattr(each, "__module__", "") in names:
                    del registry.module_dict[key]
    for name in names:
        sys.modules.pop(name, None)


class _Loader(importlib.abc.InspectLoader):
    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text

    def get_source(self, fullname: str) -> str:
        return self.text

    def is_package(self, fullname: str) -> bool:
        return self.path.endswith("/__init__.py")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules in texts, and the packages above them, which need no files."""

    def __init__(self, modules: Mapping[str, tuple[str, str]]) -> None:
        self.modules = modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name in self.modules:
            file, text = self.modules[name]
            spec = importlib.util.spec_from_loader(name, _Loader(file, text), origin=f"a model's {file}")
            if spec is not None and file.endswith("/__init__.py"):
                spec.submodule_search_locations = []
            return spec
        if any(other.startswith(f"{name}.") for other in self.modules) and name not in sys.modules:
            found = importlib.machinery.PathFinder.find_spec(name, path)
            if found is not None:
                return found
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = []
            return spec
        return None
