"""The table of promises is complete and true: what must have a promise has one, and its tests are those of `make test`."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable

import pytest
import yaml

from tests.promises import NEEDS, REPOSITORY, VARIABLES, Promise, PromiseError, broken, read_promises

PROMISES = read_promises()
WITH_SERVICES = tuple(VARIABLES)
"""What few machines have: such tests belong to `make test-all`."""
KILLS = 2
REFUSALS = {
    *(
        "syntax error",
        "misspelt --set",
        "cut-off JSON",
        "missing image",
        "damaged image",
        "other content",
        "empty split",
    ),
    *("unreachable database", "unreachable bucket"),
}
NO_PROMISE = ("scores near 0",)
"""Rows of the table of troubles that promise nothing but advice."""
SLOW = "slow"

every_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.sentence)


# --- each entry ------------------------------------------------------------------------------------------------------


def test_no_promise_stands_there_twice():
    sentences = [promise.sentence for promise in PROMISES]
    assert len(sentences) == len(set(sentences))


@every_promise
def test_a_promise_is_a_sentence_of_a_page(promise: Promise):
    assert promise.sentence.endswith(".")
    page, _, words = promise.where.partition(": ")
    assert " ".join(words.split()) in " ".join((REPOSITORY / page).read_text().split())


@every_promise
def test_a_promise_can_be_broken(promise: Promise):
    changed = broken(promise)
    assert changed != (REPOSITORY / promise.breaks.file).read_text()
    if promise.breaks.file.endswith(".py"):
        compile(changed, promise.breaks.file, "exec")


@every_promise
def test_a_promise_names_what_it_needs_as_we_know_it(promise: Promise):
    assert promise.needs in ("", *NEEDS)
    assert promise.tests
    assert {test.startswith("tests/cluster/") for test in promise.tests} == {promise.needs in WITH_SERVICES}


@every_promise
def test_the_tests_of_a_promise_are_there_and_run_by_make_test(promise: Promise, collected):
    for test in promise.tests:
        file = test.partition("::")[0]
        if promise.needs in WITH_SERVICES or file not in collected:
            require_written(test, may_be_slow=promise.needs in WITH_SERVICES)
        else:
            found = [item for item in collected[file] if test in (item.nodeid, item.nodeid.partition("[")[0])]
            assert found, f"{test} is not collected: another is to hold {promise.sentence!r}"
            slow = [item.nodeid for item in found if item.get_closest_marker(SLOW)]
            assert len(slow) < len(found), f"{test} is marked {SLOW}, and so left out of `make test`"


@pytest.fixture(scope="module")
def collected(request: pytest.FixtureRequest) -> dict[str, list[pytest.Item]]:
    """The tests of each file of which pytest has collected all but slow ones; other files are only read."""
    chosen, found = request.config.option, defaultdict(list)
    whole = not chosen.keyword and not any("::" in each for each in request.config.args)
    if whole and not getattr(chosen, "lf", False) and chosen.markexpr in ("", f"not {SLOW}"):
        for item in request.session.items:
            found[item.nodeid.partition("::")[0]].append(item)
    return found


def require_written(test: str, may_be_slow: bool) -> None:
    """The test's function stands in its file; and neither it nor the whole file is marked slow."""
    file, _, name = test.partition("::")
    tree = ast.parse((REPOSITORY / file).read_bytes())
    *classes, function = name.partition("[")[0].split("::")
    body, marks = tree.body, [node.value for node in tree.body if sets(node, "pytestmark")]
    for each in (*classes, function):
        found = next((node for node in body if getattr(node, "name", None) == each), None)
        assert isinstance(found, ast.FunctionDef | ast.ClassDef), f"there is no {test}"
        body, marks = found.body, [*marks, *found.decorator_list]
    aliases = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    written = {ast.unparse(aliases.get(ast.unparse(mark), mark)) for mark in marks}
    assert may_be_slow or f"pytest.mark.{SLOW}" not in written, f"{test} is marked {SLOW}"


def sets(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(each, ast.Name) and each.id == name for each in node.targets)


# --- what must have a promise ----------------------------------------------------------------------------------------


def covered(kind: str, promises: Iterable[Promise] = PROMISES) -> set[str]:
    """The names of a kind that promises cover, by tests of `make test`."""
    tags = [tag.partition(":") for promise in promises if promise.needs not in WITH_SERVICES for tag in promise.covers]
    return {name for found, _, name in tags if found == kind}


def test_every_step_has_a_promise():
    assert covered("step") == {path.parent.name for path in (REPOSITORY / "components").glob("*/component.py")}


def test_every_format_to_read_and_to_write_has_a_promise():
    from sightline.catalogue.export import FORMS as WRITTEN
    from sightline.formats.convert import FORMS as READ

    assert covered("format") == set(READ) - {"auto"}
    assert covered("export") == set(WRITTEN)


def test_every_command_has_a_promise(capsys):
    assert covered("command") == set(re.findall(r"^    ([a-z]+) ", help_of(capsys), re.MULTILINE))


def test_every_option_of_local_has_a_promise(capsys):
    assert covered("option") == set(re.findall(r"^  (--[a-z-]+)", help_of(capsys, "local"), re.MULTILINE))


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    from laptop.cli import main

    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


def test_every_config_has_a_promise():
    assert covered("config") == {path.stem for path in (REPOSITORY / "shared_volume" / "configs").glob("*.py")}


def test_every_key_of_a_recipe_and_every_setting_has_a_promise():
    from sightline.annotations.recipe import Recipe
    from sightline.settings import Settings

    assert covered("key") == set(Recipe.model_fields)
    assert covered("setting") == {f"SIGHTLINE_{name.upper()}" for name in Settings.model_fields}


def test_a_publication_is_killed_at_two_steps_at_least():
    from sightline.services.versioning.publication import PROTOCOL

    assert len(covered("killed")) >= KILLS
    assert covered("killed") <= {step.__name__ for step in PROTOCOL}


def test_every_refusal_that_a_newcomer_meets_has_a_promise():
    assert covered("refusal") == REFUSALS


def test_every_row_of_a_laptops_troubles_has_a_promise():
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    table = page.partition("## On a laptop")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert rows
    known = {*covered("trouble"), *NO_PROMISE}
    assert [row for row in rows if not any(words in row for words in known)] == []
    assert {words for words in known if not any(words in row for row in rows)} == set()


# --- how a promise is broken -----------------------------------------------------------------------------------------

SOURCE = '''
import os

NAMES: tuple[str, ...] = ("ä", "b")  # a remark


class Shop:
    @property
    def open(
        self,
    ) -> bool:
        """Whether ä is there."""
        for name in NAMES:
            if name == "ä":
                return True
        return False

    def price(self, of: str) -> int: return len(of)


def last(of: str) -> str:
    """ä"""
    return of[-1]
'''


def breaking(tmp_path, **breaks: str) -> str:
    entry = {
        "promise": "It holds.",
        "where": "README.md: It holds",
        "tests": ["tests/test_a.py::test_a"],
        "breaks": breaks,
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump([entry]))
    (tmp_path / "shop.py").write_text(SOURCE)
    (tmp_path / "laptop").mkdir(exist_ok=True)
    (tmp_path / "laptop" / "till.py").write_text("def count(): ...\n")
    (promise,) = read_promises(tmp_path / "table.yaml")
    return broken(promise, tmp_path)


def test_a_body_is_replaced_whatever_stands_around_it(tmp_path):
    changed = breaking(tmp_path, function="shop.py:Shop.open", body="if os:\n    return False")
    assert (
        "def open(\n        self,\n    ) -> bool:\n        if os:\n            return False\n\n    def price" in changed
    )
    changed = breaking(tmp_path, function="shop.py:Shop.price", body="return 3")
    assert "    def price(self, of: str) -> int: \n        return 3\n\n\ndef last" in changed
    changed = breaking(tmp_path, function="shop.py:last", body="return of")
    assert changed.endswith("def last(of: str) -> str:\n    return of\n")
    compile(changed, "shop.py", "exec")


def test_a_value_is_replaced_and_a_text_added(tmp_path):
    assert "NAMES: tuple[str, ...] = ()  # a remark" in breaking(tmp_path, name="shop.py:NAMES", value="()")
    assert breaking(tmp_path, file="shop.py", append="NAMES = 1") == f"{SOURCE.rstrip()}\nNAMES = 1\n"


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (
            {"function": "shop.py:Shop.shut", "body": "pass"},
            r"It holds\.: shop\.py has no function Shop\.shut any more",
        ),
        ({"function": "gone.py:last", "body": "pass"}, r"It holds\.: there is no gone\.py any more"),
        (
            {"function": "shop.py:count", "body": "pass"},
            r"no function count any more\. There is laptop/till\.py:count\.",
        ),
        ({"name": "shop.py:PRICES", "value": "1"}, r"shop\.py sets no PRICES any more"),
        ({"function": "shop.py:last", "body": "return word"}, r"the new body names word: not there"),
        ({"function": "shop.py:last"}, r"breaks is"),
    ],
)
def test_what_is_not_there_any_more_is_told_with_the_promise(tmp_path, breaks, says):
    with pytest.raises(PromiseError, match=says):
        breaking(tmp_path, **breaks)
