"""The pages as a forge shows them: links and anchors that lead somewhere, and tables whose rows are whole."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "shared_volume/custom/README.md")
]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("gfm-like", {"linkify": False}).parse(text)


def _links(text: str) -> list[str]:
    """Where links lead and images lie, but those on the web."""
    inline = [child for token in _tokens(text) for child in token.children or ()]
    found = [str(each.attrs.get("href") or each.attrs.get("src") or "") for each in inline]
    return [link for link in found if link and not re.match(r"[a-z]+:", link)]


@cache
def _anchors(page: Path) -> frozenset[str]:
    """What a forge makes of a page's headings; the second of one name gets `-1`."""
    tokens, seen, anchors = _tokens(page.read_text()), Counter[str](), set()
    for token, heading in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", heading.content.lower()).replace(" ", "-")
            anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return frozenset(anchors)


def _dead(page: Path, text: str) -> list[str]:
    dead = []
    for link in _links(text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    return dead


def _broken_rows(text: str) -> list[str]:
    """Rows with more or fewer cells than their table's heading: a forge drops or makes up cells without a word."""
    lines, broken = text.splitlines(), []
    for token in _tokens(text):
        if token.type == "table_open" and token.map:
            rows = [lines[number].strip() for number in range(*token.map)]
            cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
            broken += [row for row, count in zip(rows, cells, strict=True) if count != cells[0]]
    return broken


@every_page
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    assert _dead(page, page.read_text()) == []


@every_page
def test_every_row_of_a_table_has_a_cell_for_each_column(page):
    assert _broken_rows(page.read_text()) == []


@every_page
def test_a_page_begins_with_one_heading_and_a_sentence(page):
    tokens = _tokens(page.read_text())
    assert tokens[0].tag == "h1"
    assert [token.type for token in tokens if token.level == 0][:3] == [
        "heading_open",
        "heading_close",
        "paragraph_open",
    ]
    assert sum(token.type == "heading_open" and token.tag == "h1" for token in tokens) == 1


@pytest.mark.parametrize(
    "link",
    ["nosuch.md", "steps.md#nosuch", "#nosuch", "images/nosuch.png"],
    ids=["file", "heading", "own heading", "image"],
)
def test_a_dead_link_is_noticed(link):
    page = REPOSITORY / "docs" / "recipe.md"
    text = f"[here](steps.md#metrics), {'!' if link.endswith('png') else ''}[there]({link})"
    assert _dead(page, text) == [link]


def test_a_row_that_a_stray_bar_breaks_is_noticed():
    assert _broken_rows("| a | b |\n|---|---|\n| `x|y` | 1 |\n| `x\\|y` | 1 |\n") == ["| `x|y` | 1 |"]
