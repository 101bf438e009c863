"""The rules of the house: which module may import which, and what no file may hold."""

import ast
import dataclasses
import re
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests import house
from tests.house import REPOSITORY

LIBRARY = REPOSITORY / house.LIBRARY

STEPS = ("snapshot", "record", "train", "evaluate", "testing")

SOURCES = sorted(LIBRARY.rglob("*.py"))
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md"))]
MAP = REPOSITORY / "docs" / "house.md"
MAPPED = ("shared_volume/", "components/", "laptop/")
VARIABLE = re.compile(r"\bSIGHTLINE_[A-Z_]*[A-Z]\b")


def imports(file: Path) -> Iterator[str]:
    return house.imports(file, LIBRARY.parent if file.is_relative_to(LIBRARY) else REPOSITORY)


def room_of(file: Path) -> str:
    return house.room_of(file, LIBRARY)


def tracked_files() -> list[Path]:
    """What is in the repository, or would be after `git add`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a Git checkout")
    return [REPOSITORY / name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()]


def shown(file: Path) -> str:
    return str(file.relative_to(REPOSITORY))


def test_no_file_imports_itself_through_others():
    assert house.circles(house.import_graph(REPOSITORY)) == []


def test_every_room_has_its_floor():
    assert {room_of(file) for file in SOURCES} - {"__init__"} == house.HEIGHTS.keys()


@pytest.mark.parametrize("file", [file for file in SOURCES if file.name == "__init__.py"], ids=shown)
def test_a_package_re_exports_nothing(file):
    """A module reaches only what it names, so that an edit re-runs only what it touches."""
    assert not list(imports(file))


@pytest.mark.parametrize("file", SOURCES, ids=shown)
def test_a_library_file_does_not_import_kfp(file):
    assert not {name for name in imports(file) if name.partition(".")[0] in ("kfp", "kfp_kubernetes", "components")}


@pytest.mark.parametrize("file", [file for file in SOURCES if room_of(file) != "__init__"], ids=shown)
def test_imports_only_point_down(file):
    assert house.upward(file, LIBRARY) == set()


@pytest.mark.parametrize("step", STEPS)
def test_a_step_does_not_import_another(step):
    """Each step runs from a release of its own, where the others are only if it needs them."""
    others = tuple(f"sightline.steps.{other}" for other in STEPS if other != step)
    for file in (LIBRARY / "steps" / step).rglob("*.py"):
        assert not [name for name in imports(file) if name.startswith(others)], shown(file)


@pytest.mark.parametrize(
    "file",
    [REPOSITORY / name for name in ("components", "manifests")],
    ids=shown,
)
def test_what_lies_outside_the_volume_knocks_at_the_one_door(file):
    named = {
        name
        for path in file.rglob("*")
        if path.suffix in (".py", ".yaml")
        for name in re.findall(
            r"(?:from sightline|import sightline|-m,? sightline|- sightline)(?:\.\S+| import \S+)", path.read_text()
        )
    }
    assert {name.rpartition("sightline")[2].strip(" .,]").removeprefix("import ") for name in named} == {"entry"}


@pytest.mark.parametrize("file", sorted((REPOSITORY / "components").rglob("component.py")), ids=shown)
def test_a_component_imports_nothing_heavy_when_the_pipeline_is_compiled(file):
    tree = ast.parse(file.read_bytes())
    roots = {
        name.partition(".")[0]
        for node in tree.body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert roots <= {"kfp", "components", "typing"}


def test_what_lies_outside_the_volume_imports_in_no_circle():
    """pipeline.py stands above laptop/, which stands above components/; within a folder, too, imports only point one way."""
    outside = [
        REPOSITORY / "pipeline.py",
        *(REPOSITORY / "laptop").rglob("*.py"),
        *(REPOSITORY / "components").rglob("*.py"),
    ]
    modules = {
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): file for file in outside
    }
    TopologicalSorter({name: set(imports(file)) & modules.keys() - {name} for name, file in modules.items()}).prepare()
    above = {"components": ("laptop", "pipeline"), "laptop": ("pipeline",)}
    guilty = [
        f"{name} imports {found}"
        for name, file in modules.items()
        for found in imports(file)
        if found.partition(".")[0] in above.get(name.partition(".")[0], ())
    ]
    assert guilty == []


def test_no_step_points_an_artifact_at_another_place():
    """KFP's launcher refuses a URI outside the pipeline root, and the local runner does not show it."""
    guilty = []
    for file in [*SOURCES, *(REPOSITORY / "components").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_bytes())):
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign | ast.AugAssign)
                else []
            )
            if any(isinstance(target, ast.Attribute) and target.attr == "uri" for target in targets):
                guilty.append(f"{shown(file)}:{node.lineno}")
    assert guilty == []


def test_no_file_names_a_place_on_one_machine():
    """Only tests and CI may know that data lies beside a checkout."""
    place = re.compile(r"\.\./shared|(?<![\w.*}>~-])/work/|(?<![\w.*}>~-])/(home|Users)/\w")
    guilty = []
    for file in tracked_files():
        if file.relative_to(REPOSITORY).parts[0] in ("tests", ".ci"):
            continue
        text = file.read_text(encoding="utf-8", errors="ignore")
        guilty += [
            f"{shown(file)}:{number}" for number, line in enumerate(text.splitlines(), start=1) if place.search(line)
        ]
    assert guilty == []


def test_every_setting_recipe_key_and_config_says_what_it_is_where_it_is_declared():
    from sightline.annotations.recipe import Recipe
    from sightline.settings import Settings

    fields = {
        f"{model.__name__}.{key}": field for model in (Settings, Recipe) for key, field in model.model_fields.items()
    }
    configs = {path.stem: ast.parse(path.read_bytes()) for path in (LIBRARY.parent / "configs").glob("*.py")}
    assert {name for name, field in fields.items() if not field.description} == set()
    assert {name for name, tree in configs.items() if not ast.get_docstring(tree)} == set()


def test_no_page_names_a_variable_that_nothing_reads():
    from components.cluster import Installation
    from sightline.settings import Settings

    prefixed = {*Settings.model_fields, *(field.name for field in dataclasses.fields(Installation))}
    code = "\n".join(file.read_text(errors="ignore") for file in tracked_files() if file.suffix != ".md")
    read = {f"SIGHTLINE_{name.upper()}" for name in prefixed} | set(VARIABLE.findall(code))
    named = {page: set(VARIABLE.findall((REPOSITORY / page).read_text())) for page in PAGES}
    assert any(named.values())
    assert {page: names - read for page, names in named.items() if names - read} == {}


def test_the_map_names_every_file_and_nothing_that_is_gone():
    folder, named = "", set()
    for line in MAP.read_text().splitlines():
        if found := re.match(r"### `(.+)`", line):
            folder = found[1]
        elif line.startswith("#"):
            folder = ""
        elif folder and (found := re.match(r"\| `(.+?)` \| \S", line)):
            named.add(f"{folder}{found[1]}")
    files = [shown(file) for file in tracked_files() if file.suffix == ".py" and file.name != "__init__.py"]
    assert named == {file for file in files if file.startswith(MAPPED)}


def test_the_map_shows_the_floors_from_the_top():
    table = MAP.read_text().partition("| room |")[2].partition("\n\n")[0]
    floors = [set(re.findall(r"`(\w+)`", line.split(" | ")[0])) for line in table.splitlines()[2:]]
    assert floors == list(reversed(house.FLOORS))


# --- make house ------------------------------------------------------------------------------------------------------


def measured(tmp_path: Path, files: dict[str, str]) -> dict[str, tuple]:
    """The rows of `make house` on a small tree, by their first column."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return {name: rest for _, rows in house.measure(tmp_path) for name, *rest in rows}


def test_make_house_finds_imports_that_point_up_and_circles(tmp_path):
    rows = measured(
        tmp_path,
        {
            "shared_volume/sightline/__init__.py": "",
            "shared_volume/sightline/errors.py": "",
            "shared_volume/sightline/images/files.py": "from sightline.tasks import detection\nselect_by = 1\n",
            "shared_volume/sightline/tasks/detection.py": "def see():\n    import sightline.images.files\n",
            "laptop/cli.py": "from . import options\nimport sightline.errors\n",
            "laptop/options.py": "from pipeline import sightline\n",
            "pipeline.py": "from laptop.cli import main\n",
        },
    )
    assert rows["imports that point up"] == [1, "images/files.py to tasks"]
    assert rows["import circles"] == [2, "5 files in them"]
    assert rows["sightline/images"] == [1, "2"]
    assert rows["loose files in the library's root"] == [1, "errors"]
    assert rows["files that name select_by"][0] == 1
    assert "sightline" in rows["not measured"][1]


def test_make_house_says_where_a_tree_has_other_rooms(tmp_path):
    rows = measured(tmp_path, {"shared_volume/sightline/attic/old.py": "", "pipeline.py": ""})
    assert rows["imports that point up"][0] == "–"
