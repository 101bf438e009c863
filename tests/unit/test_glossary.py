"""docs/glossary.md: a line a word, in order, and no code that still uses a name it has replaced."""

import re
import tokenize
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CODE = sorted(
    path
    for folder in ("shared_volume", "laptop", "components", "benchmarks", "docker")
    for path in (REPOSITORY / folder).rglob("*.py")
)


def _rows() -> list[list[str]]:
    lines = (REPOSITORY / "docs" / "glossary.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]


ROWS = _rows()
REPLACED = {name: word for word, _, old in ROWS for name in re.findall(r"`(\w+)`", old)}


def test_every_word_stands_once_in_order_with_its_meaning():
    words = [word for word, _, _ in ROWS]
    assert words == sorted(set(words), key=str.lower)
    assert all(meaning for _, meaning, _ in ROWS)


@pytest.mark.parametrize("name", sorted(REPLACED))
def test_a_replaced_name_is_gone(name):
    left = []
    for path in CODE:
        with path.open("rb") as file:
            left += [
                f"{path.relative_to(REPOSITORY)}:{token.start[0]}"
                for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.NAME and token.string == name
            ]
    assert not left, f"the word is {REPLACED[name]}"
