"""Errors of other libraries inside our sentences: one full stop ends them."""

import ast
from pathlib import Path

import pytest

from laptop.volume.cluster import Cluster
from laptop.workspace import LIBRARY
from sightline.errors import SightlineError, clause

SOURCES = sorted(path for folder in (LIBRARY / "sightline", LIBRARY.parent / "laptop") for path in folder.rglob("*.py"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Invalid file. No configuration found.", "Invalid file; No configuration found"),
        ("[Errno 111] Connection refused", "Connection refused"),
        ("two\nlines...", "two lines"),
        (ValueError("1.5 is no number"), "1.5 is no number"),
    ],
)
def test_what_others_say_becomes_part_of_a_sentence(said, told):
    assert clause(said) == told


def test_a_bare_error_before_a_full_stop_goes_through_the_one_rule():
    bare = [f"{path.name}:{line}" for path in SOURCES for line in _bare_errors(ast.parse(path.read_text()))]
    assert len(SOURCES) > 100 and bare == [], "write {clause(error)}."


def _bare_errors(tree: ast.Module) -> list[int]:
    """The lines of f-strings in which `{error}` or `{…['failed']}` is followed by a full stop."""
    found = []
    for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
        for value, after in zip(text.values, text.values[1:], strict=False):
            ends = isinstance(after, ast.Constant) and str(after.value).startswith((". ", ".\n")) or _is_stop(after)
            if isinstance(value, ast.FormattedValue) and ends and isinstance(value.value, ast.Name | ast.Subscript):
                name = value.value.id if isinstance(value.value, ast.Name) else ast.unparse(value.value.slice)
                found += [value.lineno] if name in ("error", "'failed'", "'message'") else []
    return found


def _is_stop(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == "."


@pytest.mark.parametrize("content", ["users: []", "current-context: a\nclusters: []\nusers: []\ncontexts: []", "{"])
def test_a_kubeconfig_that_cannot_be_used_is_told_in_whole_sentences(tmp_path: Path, content: str):
    (tmp_path / "config").write_text(content)
    with pytest.raises(SightlineError) as caught:
        Cluster.find(str(tmp_path / "config"), None, None)
    said = str(caught.value)
    assert ".." not in said and said.endswith(". kubectl config view shows it.") and said.count(". ") == 1
