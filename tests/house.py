"""Measure the house: how large its rooms are, where its imports point, and how much code each step's release holds.

    .venv/bin/python -m tests.house [CHECKOUT] [--rev REV]

Any checkout, and with --rev any revision of its history, is measured by the same rules, so that two can be laid side by side.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

FLOORS = (
    {"errors", "references", "settings", "versions"},
    {"processes"},
    {"services"},
    {"images"},
    {"annotations"},
    {"formats"},
    {"models", "reports"},
    {"tasks"},
    {"catalogue", "publish"},
    {"steps"},
    {"entry"},
)
"""The rooms of docs/house.md, from the bottom up; imports go down, or sideways within a room."""
HEIGHTS = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}

LIBRARY = Path("shared_volume", "sightline")
OUTSIDE = ("components", "laptop", "pipeline.py")
CODE = ("shared_volume", *OUTSIDE)
PAGES = ("tests", "benchmarks", "manifests", "docs", "README.md", "CHANGELOG.md")
WORD = "select_by"
"""A parameter that every layer hands on: the fewer files name it, the fewer an added parameter touches."""
CONFIG, CATEGORY = "mask_rcnn_r18_small", "plates"
NUMBER = re.compile(r"[\d,]+")
WIDTH = 90
"""Letters of a table's last column; longer text goes on in the next line."""

FREEZE = """
import json, sys
from pathlib import Path

try:
    from sightline.services.runs.freeze import freeze
except ModuleNotFoundError:  # a revision without rooms
    from sightline.snapshot import freeze
releases = freeze(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).releases
print(json.dumps({step: str(release) for step, release in releases.items()}))
"""


def main(arguments: Sequence[str]) -> int:
    """Print the measures of one tree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=REPOSITORY, help="default: this one")
    parser.add_argument("--rev", help="measure this Git revision of it, not its files as they are")
    options = parser.parse_args(arguments)
    with _tree(options.checkout.resolve(), options.rev) as root:
        print(f"{options.checkout}{f' at {options.rev}' if options.rev else ''}")
        for title, rows in measure(root):
            print(f"\n{title}")
            for row in _aligned(rows):
                print(f"  {row}".rstrip())
    return 0


@contextmanager
def _tree(checkout: Path, revision: str | None) -> Iterator[Path]:
    """The checkout itself, or the files of one revision in a folder of their own."""
    if revision is None:
        yield checkout
        return
    with tempfile.TemporaryDirectory(prefix="house-") as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=checkout, stdout=subprocess.PIPE, check=True)
        with tempfile.TemporaryFile() as file:
            file.write(archive.stdout)
            file.seek(0)
            with tarfile.open(fileobj=file) as packed:
                packed.extractall(folder, filter="data")
        yield Path(folder)


def measure(root: Path) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    """A table each, with its title: of the sizes, the imports, and the releases of a tree."""
    folders = {name: list(files) for name, files in _folders(root)}
    sizes = [(name, len(files), f"{_lines(files):,}") for name, files in folders.items()]
    yield "folder, files, lines", sizes
    code = [file for place in CODE for file in _python(root / place)]
    longest = max(code, key=lambda file: _lines([file]))
    loose = sorted(file.stem for file in (root / LIBRARY).glob("*.py") if file.stem != "__init__")
    named, elsewhere = _naming(root, CODE), _naming(root, PAGES)
    yield (
        "files",
        [
            ("longest file", _lines([longest]), str(longest.relative_to(root))),
            ("loose files in the library's root", len(loose), ", ".join(loose)),
            (f"files that name {WORD}", named, f"and {elsewhere} tests, benchmarks, manifests and pages"),
        ],
    )
    yield "imports", list(_imports(root))
    yield "release, modules, lines", list(_releases(root))


def _folders(root: Path) -> Iterator[tuple[str, Iterable[Path]]]:
    library = root / LIBRARY
    yield f"{library.name}/*.py", library.glob("*.py")
    for room in sorted(path for path in library.iterdir() if any(path.rglob("*.py"))):
        yield f"{library.name}/{room.name}", _python(room)
    yield f"{library.name}, all of it", _python(library)
    for folder in ("components", "laptop", "tests"):
        yield folder, _python(root / folder)


def _python(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def _lines(files: Iterable[Path]) -> int:
    return sum(file.read_bytes().count(b"\n") for file in files)


def _naming(root: Path, places: Iterable[str]) -> int:
    files = [file for place in places for file in [root / place, *(root / place).rglob("*")] if file.is_file()]
    return sum(WORD.encode() in file.read_bytes() for file in files if "__pycache__" not in file.parts)


def _imports(root: Path) -> Iterator[tuple[object, ...]]:
    library = root / LIBRARY
    files = [file for file in _python(library) if room_of(file, library) != "__init__"]
    if {room_of(file, library) for file in files} <= HEIGHTS.keys():
        up = [f"{file.relative_to(library)} to {other}" for file in files for other in sorted(upward(file, library))]
        yield "imports that point up", len(up), ", ".join(up)
    else:
        yield "imports that point up", "–", "this tree has other rooms than tests/house.py"
    found = circles(import_graph(root))
    yield "import circles", len(found), f"{sum(map(len, found))} files in them" if found else ""
    for circle in found:
        yield "", len(circle), ", ".join(str(file.relative_to(root)).replace(f"{LIBRARY}/", "") for file in circle)


def imports(file: Path, source: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it the import stands.

    Args:
        file: of Python.
        source: the folder that dotted names start from.
    """
    package = file.relative_to(source).parent.parts
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(file: Path, library: Path) -> str:
    """The folder or module right below sightline/ that a file belongs to."""
    return file.relative_to(library).parts[0].removesuffix(".py")


def upward(file: Path, library: Path) -> set[str]:
    """The rooms that a file imports from though they are not below its own."""
    own = room_of(file, library)
    names = (name.split(".") for name in imports(file, library.parent))
    others = {parts[1] for parts in names if parts[0] == library.name and len(parts) > 1} & HEIGHTS.keys() - {own}
    # The ground is one room: loose files of plain data.
    return {other for other in others if HEIGHTS[other] >= max(HEIGHTS[own], 1)}


def import_graph(root: Path) -> dict[Path, set[Path]]:
    """The files of the library, the commands, the components and pipeline.py, each with those that it imports."""
    graph: dict[Path, set[Path]] = {}
    for source, places in ((root / LIBRARY.parent, (LIBRARY.name,)), (root, OUTSIDE)):
        files = [file for place in places for file in _python(source / place)]
        modules = {_dotted(file, source): file for file in files}
        for file in files:
            graph[file] = set(filter(None, (_file_of(name, modules) for name in imports(file, source)))) - {file}
    return graph


def _dotted(file: Path, source: Path) -> str:
    return ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def _file_of(name: str, modules: Mapping[str, Path]) -> Path | None:
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return modules.get(name)


def circles(graph: Mapping[Path, set[Path]]) -> list[list[Path]]:
    """The groups of files of which each imports every other, directly or through others; the largest first."""
    reached = {file: _reached(file, graph) for file in graph}
    groups = {
        frozenset(other for other in reached[file] if file in reached[other]) for file in graph if file in reached[file]
    }
    return sorted((sorted(group) for group in groups), key=lambda group: (-len(group), group))


def _reached(file: Path, graph: Mapping[Path, set[Path]]) -> set[Path]:
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _releases(root: Path) -> Iterator[tuple[object, ...]]:
    """What the tree's own code freezes of itself for each step."""
    with tempfile.TemporaryDirectory(prefix="house-") as folder:
        volume = Path(folder)
        (volume / "code").symlink_to(root / LIBRARY.parent)
        frozen = subprocess.run(
            [sys.executable, "-c", FREEZE, str(volume), CONFIG, CATEGORY],
            env={**os.environ, "PYTHONPATH": str(root / LIBRARY.parent), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if frozen.returncode:
            yield "not measured", "–", frozen.stderr.strip().rpartition("\n")[2]
            return
        for step, release in json.loads(frozen.stdout).items():
            files = [file for file in _python(Path(release)) if file.relative_to(release).parts[0] == LIBRARY.name]
            yield step, len(files), f"{_lines(files):,}"


def _aligned(rows: Sequence[tuple[object, ...]]) -> Iterator[str]:
    """Rows in columns: names to the left, numbers to the right, text in lines that a screen holds."""
    cells = [tuple(str(cell) for cell in row) for row in rows]
    names, numbers = (max(len(row[column]) for row in cells) for column in (0, 1))
    last = max((len(row[2]) for row in cells if NUMBER.fullmatch(row[2])), default=0)
    for name, number, rest in cells:
        first, *more = textwrap.wrap(rest, WIDTH) or [""]
        yield f"{name:<{names}}  {number:>{numbers}}  {first:>{last if NUMBER.fullmatch(first) else 0}}"
        yield from (f"{'':{names + numbers + 4}}{line}" for line in more)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
