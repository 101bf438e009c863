"""What a step can reach: the files that import statements lead to from its function in `entry.py`; and their digest."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PACKAGE = "sightline"
CUSTOM = "custom"  # the users' own code beside ours
DOOR = Path(PACKAGE, "entry.py")
DIGEST_LENGTH = 16
Module = tuple[str, ...]  # its dotted name, in parts
Imports = Mapping[Path, tuple[Module, ...]]  # the modules of our package that each file's import statements name


def read_imports(root: Path, files: Iterable[Path]) -> Imports:
    """The imports of every Python file (relative to the root, all parse), `entry.py`'s but those within the functions of steps."""
    found = {}
    for file in files:
        if file.suffix == ".py":
            tree = ast.parse((root / file).read_bytes())
            if file == DOOR:
                tree.body = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
            found[file] = tuple(_imports(tree, file))
    return found


def door_imports(root: Path, function: str) -> tuple[Module, ...]:
    """What one function of `entry.py` imports; nothing when there is no such function."""
    for node in ast.parse((root / DOOR).read_bytes()).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return tuple(_imports(node, DOOR))
    return ()


def reach(root: Path, modules: Iterable[Module], imports: Imports) -> set[Path]:
    """The files of some modules and of all that they import, the packages that these lie in, and the packages' data.

    What is no module of ours is passed over. The paths are relative to the root, which holds `sightline/`.
    """
    files: set[Path] = set()
    waiting = [path for module in modules for path in _files_of(root, module)]
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting += (found for module in imports.get(path, ()) for found in _files_of(root, module))
    return files


def _files_of(root: Path, module: Module) -> Iterator[Path]:
    """A module's file, and of each package above it `__init__.py` and the folders beside that are no packages: its data."""
    if module[0] not in (PACKAGE, CUSTOM):
        return
    for depth in range(1, len(module) + 1):
        module_path = Path(*module[:depth])
        if (root / module_path).is_dir():
            if (root / module_path / "__init__.py").is_file():
                yield module_path / "__init__.py"
            # Folders in custom are not a module's data: others' tasks and configs lie there.
            if depth > 1 and module[0] == PACKAGE:
                yield from _data(root, module_path)
        else:
            if (root / module_path.with_suffix(".py")).is_file():
                yield module_path.with_suffix(".py")
            return


def _data(root: Path, package: Path) -> Iterator[Path]:
    for folder in (root / package).iterdir():
        if folder.is_dir() and folder.name != "__pycache__" and not (folder / "__init__.py").exists():
            files = (path.relative_to(root) for path in folder.rglob("*") if path.is_file())
            yield from (file for file in files if "__pycache__" not in file.parts)


def _imports(tree: ast.AST, file: Path) -> Iterator[Module]:
    package = file.parent.parts
    for node in _running_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            if module:
                yield from ((*module, alias.name) for alias in node.names)


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`, which never run."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children: Iterable[ast.AST] = node.orelse
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from _running_nodes(child)


def digest_files(root: Path, files: Iterable[Path]) -> str:
    """The digest of some files: of their names and contents."""
    return digest_contents({file: hashlib.sha256((root / file).read_bytes()).hexdigest() for file in files})


def digest_contents(contents: Mapping[Path, str]) -> str:
    """The digest of helper code whose files' contents have these SHA-256 sums."""
    whole = hashlib.sha256()
    for file in sorted(contents):
        whole.update(f"{file.as_posix()}\0{contents[file]}\n".encode())
    return whole.hexdigest()[:DIGEST_LENGTH]
