"""A model config and all that it inherits or imports: where that lies, read without running it."""

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sightline.errors import ConfigError, NoConfigError, SightlineError, nearest
from sightline.services.runs import homes
from sightline.services.runs.closure import CUSTOM, Module

IMPORTS: Final = "custom_imports"


class BrokenCodeError(SightlineError):
    """The live code cannot be used: it is missing, being written to, or has a syntax error."""


def config_chain(root: Path, config: str) -> list[Path]:
    """A model config and those it inherits by `_base_`, relative to the helper code, the config first; none of mmdet's package.

    Of what is wrong a NoConfigError, a ConfigError (it inherits what is not there) or a BrokenCodeError tells.
    """
    if config.startswith(homes.SHIPPED):
        return []
    first = Path(os.path.normpath(homes.config_file(root, config)))
    if not _is_config(root, first):
        known = nearest(config, list(homes.config_names(root)))
        raise NoConfigError(f"There is no config {config!r} in the helper code's folder configs.{known}")
    chain = [first]
    for file in chain:  # which grows meanwhile
        check_syntax((root / file).read_bytes(), root / file)
        for base in _bases(root / file):
            if base.startswith(homes.SHIPPED):
                continue
            path = Path(os.path.normpath(file.parent / base))
            if not _is_config(root, path):
                raise ConfigError(
                    f"{file} inherits {base!r}, and there is no such file in configs. Correct its _base_."
                )
            if path not in chain:
                chain.append(path)
    return chain


def _bases(config: Path) -> Sequence[str]:
    """What a config inherits, as it says it."""
    named = assigned(config, "_base_") or ()
    return [named] if isinstance(named, str) else named


def _is_config(root: Path, file: Path) -> bool:
    return any(file.is_relative_to(home) for home in homes.CONFIGS) and (root / file).is_file()


def config_task(root: Path, config: str) -> str | None:
    """The task that a config or a base of it names by `task = "…"`, else None; raises like `config_chain`."""
    tasks = (assigned(root / file, "task") for file in config_chain(root, config))
    return next((str(task) for task in tasks if task is not None), None)


def assigned(config: Path, name: str) -> Any:
    """What a config sets a name to, read without running it; None when it does not."""
    for node in ast.parse(config.read_bytes()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and target and ast.unparse(target) == name:
            try:
                return _literal(node.value)
            except ValueError:
                raise ConfigError(
                    f"{config}, line {node.value.lineno}: write {name} out as text, so that it can be read without running it."
                ) from None
    return None


def _literal(node: ast.expr) -> Any:
    """A value that is written out; of calls, `dict(key=value)`."""
    if (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "dict"
        and not node.args
        and all(word.arg for word in node.keywords)
    ):
        return {word.arg: _literal(word.value) for word in node.keywords}
    return ast.literal_eval(node)


def modules_imported(root: Path, config: str) -> list[Module]:
    """The modules in `custom` that a config imports by `custom_imports`, as it or the first base that does says.

    Raises:
        ConfigError: one of them is not there, or the key is no dict of names.
    """
    found = (assigned(root / file, IMPORTS) for file in config_chain(root, config))
    stated = next((each for each in found if each is not None), None)
    names = imported_names(stated, config)
    for name in names:
        path = root / Path(*name.split("."))
        if name.split(".")[0] == CUSTOM and not (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()):
            raise ConfigError(
                f"The config {config} imports {name!r} by {IMPORTS}, and there is no {Path(*name.split('.'))}.py in the helper code. "
                "Put it there, or correct the name."
            )
    return [tuple(name.split(".")) for name in names if name.split(".")[0] == CUSTOM]


def imported_names(stated: Any, shown_as: str) -> list[str]:
    """The modules that the value of `custom_imports` names."""
    if not stated:
        return []
    names = stated.get("imports") if isinstance(stated, Mapping) else stated
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'{shown_as}: {IMPORTS} must be like dict(imports=["custom.models.mine"]).')
    return list(names)


def shipped_in(root: Path, config: str) -> list[str]:
    """The configs of mmdet's package, `mmdet::NAME`, that a config is or inherits."""
    names = [config] if config.startswith(homes.SHIPPED) else []
    for file in config_chain(root, config):
        names += [base for base in _bases(root / file) if base.startswith(homes.SHIPPED)]
    return names


def check_syntax(content: bytes, shown_as: Path, then: str = "Correct the live code and run again.") -> None:
    """Refuse Python that cannot be compiled: a BrokenCodeError names the file and the line."""
    try:
        compile(content, str(shown_as), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", str(error))
        raise BrokenCodeError(f"{shown_as}, line {line}: {reason}. {then}") from None
