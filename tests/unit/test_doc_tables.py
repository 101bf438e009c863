"""The pages' tables are those that `make docs` makes, and each command's example can be typed."""

import shlex

import pytest

from laptop import cli
from laptop.examples import EXAMPLES
from sightline.annotations.findings import Code
from sightline.annotations.meanings import MEANINGS
from tests import doc_tables


@pytest.mark.parametrize("name", doc_tables.TABLES)
def test_a_table_is_what_the_code_says(name):
    page = (doc_tables.DOCS / doc_tables.TABLES[name][0]).read_text()
    assert doc_tables.written(name, page) == page, "type make docs"


def test_make_docs_writes_what_lies_between_the_marks_and_nothing_else(tmp_path, monkeypatch, capsys):
    for page, _ in doc_tables.TABLES.values():
        (tmp_path / page).write_text((doc_tables.DOCS / page).read_text())
    page = tmp_path / "settings.md"
    before = page.read_text()
    page.write_text(before.replace("`SIGHTLINE_DEBUG`", "`SIGHTLINE_NOISE`"))
    monkeypatch.setattr(doc_tables, "DOCS", tmp_path)
    assert doc_tables.main(["--check"]) == 1
    assert "docs/settings.md: not what the code says any more" in capsys.readouterr().out
    assert doc_tables.main([]) == 0 == doc_tables.main(["--check"])
    assert page.read_text() == before


def test_every_finding_has_a_meaning():
    assert {*MEANINGS} == {*Code}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_commands_example_can_be_typed(name, capsys):
    options = cli._parser().parse_args(shlex.split(EXAMPLES[name]))
    assert options.command == name
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    assert f"example: python pipeline.py {EXAMPLES[name]}\n" in capsys.readouterr().out


def test_every_command_has_an_example():
    assert {*cli.command_parsers()} == {*EXAMPLES}
