"""What tests/promises.yaml says: promises of the README and docs, the tests that hold each, and how each can be broken."""

import ast
import builtins
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.mariadb import missing_programs

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = REPOSITORY / "tests" / "promises.yaml"
VARIABLES = {"engine": "SIGHTLINE_TEST_DOCKER_HOST", "kubernetes": "SIGHTLINE_TEST_KUBECONFIG"}
"""What few machines have -> the variable that names it where it is there."""
NEEDS = (*VARIABLES, "mariadb")
CODE = ("laptop", "components", "shared_volume")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class PromiseError(Exception):
    """The table says something that is not so."""


@dataclass(frozen=True, slots=True)
class Break:
    """A change of one file after which a promise does not hold.

    Attributes:
        file: that changes, from the repository's root.
        function: of that file, as `name` or `Class.name`, whose body is replaced; or
        name: set at the file's top level, whose value is replaced; or neither: text is added at the file's end.
        text: the body's statements, the value's expression, or what is added.
    """

    file: str
    function: str
    name: str
    text: str

    def __str__(self) -> str:
        what = f":{self.function or self.name}" if self.function or self.name else ""
        return f"{self.file}{what}"


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence that a user may rely on.

    Attributes:
        sentence: as a reader of the README would say it.
        where: page and heading (or words of its text) that promise it.
        tests: node ids for pytest; without `[…]` every case of the test.
        breaks: the change that these tests must notice.
        covers: `kind:name` of parts that have to have a promise.
        needs: what the tests need and machines may lack, one of NEEDS; empty for nothing.
    """

    sentence: str
    where: str
    tests: tuple[str, ...]
    breaks: Break
    covers: tuple[str, ...]
    needs: str

    def lacking(self) -> str:
        """Why its tests cannot run on this machine; empty when they can."""
        variable = VARIABLES.get(self.needs)
        if variable:
            return "" if os.environ.get(variable) else f"{variable} is not set"
        return "MariaDB is not installed" if self.needs == "mariadb" and missing_programs() else ""


def read_promises(path: Path = TABLE) -> tuple[Promise, ...]:
    """Every promise, in the table's order.

    Raises:
        PromiseError: an entry lacks something or has something else.
    """
    return tuple(_promise(entry) for entry in yaml.safe_load(path.read_text()))


def _promise(entry: dict[str, Any]) -> Promise:
    missing = {"promise", "where", "tests", "breaks"} - entry.keys()
    strange = entry.keys() - {"promise", "where", "tests", "breaks", "covers", "needs"}
    if missing or strange:
        raise PromiseError(f"{entry.get('promise', entry)}: missing {sorted(missing)}, unknown {sorted(strange)}")
    return Promise(
        sentence=entry["promise"],
        where=entry["where"],
        tests=tuple(entry["tests"]),
        breaks=_break(entry["promise"], entry["breaks"]),
        covers=tuple(entry.get("covers", ())),
        needs=entry.get("needs", ""),
    )


def _break(sentence: str, given: dict[str, str]) -> Break:
    match given:
        case {"function": place, "body": text, **more} if not more:
            file, _, function = place.partition(":")
            return Break(file, function, "", text)
        case {"name": place, "value": text, **more} if not more:
            file, _, name = place.partition(":")
            return Break(file, "", name, str(text))
        case {"file": file, "append": text, **more} if not more:
            return Break(file, "", "", text)
    raise PromiseError(
        f"{sentence}: breaks is {{function: FILE:NAME, body: …}}, {{name: FILE:NAME, value: …}} or {{file: FILE, append: …}}"
    )


def broken(promise: Promise, root: Path = REPOSITORY) -> str:
    """The text of the file that the promise's change is made in, once it is made.

    Raises:
        PromiseError: there is no such file, function or name (any more); or the new body names something that is not there.
    """
    change = promise.breaks
    path = root / change.file
    if not path.is_file():
        places = _elsewhere(root, change.function) if change.function else ()
        raise PromiseError(_gone(promise, f"there is no {change.file} any more", places))
    source = path.read_text()
    if not (change.function or change.name):
        return f"{source.rstrip()}\n{change.text.rstrip()}\n"
    tree = ast.parse(source)
    if change.function:
        found = _function(tree, change.function)
        if found is None:
            raise PromiseError(
                _gone(
                    promise,
                    f"{change.file} has no function {change.function} any more",
                    _elsewhere(root, change.function),
                )
            )
        if unknown := _unknown_names(tree, found, change.text):
            raise PromiseError(f"{promise.sentence}: in {change}, the new body names {', '.join(unknown)}: not there")
        return _with_body(source, found, change.text)
    value = _value(tree, change.name)
    if value is None:
        raise PromiseError(_gone(promise, f"{change.file} sets no {change.name} any more"))
    return _replaced(source, value, value, change.text)


def _gone(promise: Promise, what: str, places: Sequence[str] = ()) -> str:
    there = f" There is {' and '.join(places)}." if places else ""
    return f"{promise.sentence}: {what}.{there} Name in tests/promises.yaml what breaks this promise now."


def _elsewhere(root: Path, name: str) -> list[str]:
    """Where else in the code a function of that name is."""
    files = (path for folder in CODE for path in sorted((root / folder).rglob("*.py")))
    return [f"{path.relative_to(root)}:{name}" for path in files if _function(ast.parse(path.read_bytes()), name)]


def _function(tree: ast.Module, name: str) -> Function | None:
    body: list[ast.stmt] = tree.body
    *classes, last = name.split(".")
    for part in classes:
        found = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == part), None)
        if found is None:
            return None
        body = found.body
    return next((node for node in body if isinstance(node, Function) and node.name == last), None)


def _value(tree: ast.Module, name: str) -> ast.expr | None:
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value  # type: ignore[union-attr]
    return None


def _with_body(source: str, function: Function, body: str) -> str:
    """The source with another body, whose first line may stand behind the signature's colon; a docstring goes."""
    indent = " " * (function.col_offset + 4)
    text = textwrap.indent(textwrap.dedent(body).strip(), indent)
    on_one_line = source.split("\n")[function.body[0].lineno - 1].strip().startswith(("def ", "async def "))
    return _replaced(source, function.body[0], function.body[-1], f"\n{text}" if on_one_line else text.lstrip())


def _replaced(source: str, first: ast.AST, last: ast.AST, text: str) -> str:
    """The source with other text from the begin of one node to the end of another; ast counts columns in bytes."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: first.lineno - 1])) + first.col_offset  # type: ignore[attr-defined]
    end = sum(map(len, lines[: last.end_lineno - 1])) + last.end_col_offset  # type: ignore[attr-defined]
    whole = b"".join(lines)
    return (whole[:start] + text.encode() + whole[end:]).decode()


def _unknown_names(tree: ast.Module, function: Function, body: str) -> list[str]:
    """Names that a body uses and neither it, the function's parameters, the module nor Python knows.

    Without this a function whose parameters were renamed would fail by a NameError, and any test would notice that.
    """
    new = ast.parse(textwrap.dedent(body))
    used = {node.id for node in ast.walk(new) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    parameters = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    bound = {name for node in ast.walk(new) for name in _bound(node)}
    top = {name for node in _outside_functions(tree) for name in _bound(node)}
    return sorted(used - {*bound, *parameters, *top, *vars(builtins), "__file__", "__name__"})


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            yield from _outside_functions(node)


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a node gives something to."""
    match node:
        case (
            ast.Name(id=name, ctx=ast.Store())
            | ast.FunctionDef(name=name)
            | ast.ClassDef(name=name)
            | ast.arg(arg=name)
        ):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
