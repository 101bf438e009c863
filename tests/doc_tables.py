"""`make docs`: the tables of the pages that say what the code says, made from the code.

python -m tests.doc_tables            writes them into the pages, between their marks
python -m tests.doc_tables --check    says which page differs, and changes nothing
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from components.parameters import as_markdown
from laptop.cli import command_parsers
from laptop.examples import EXAMPLES
from sightline.annotations.findings import DEFAULTS, FIXES, PUBLISHING_DEFAULTS, Code
from sightline.annotations.meanings import MEANINGS
from sightline.annotations.recipe import Recipe
from sightline.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
MARKS = "<!-- {name}: made by make docs -->\n{table}<!-- end -->"
IN_WORKSPACE = {
    "storage": "`file://…/.sightline/storage`",
    "database_url": "`sqlite:///…/.sightline/sightline.db`",
    "dataset_repo": "`.sightline/dataset.git`",
    "volume": "`.sightline/volume`; elsewhere `/shared_volume`",
}
"""Setting -> what a laptop's workspace makes of it."""


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def recipe_table() -> str:
    rows = [
        (f"`{name}`", _default(field.default), field.description or "") for name, field in Recipe.model_fields.items()
    ]
    return table(("key", "default", "meaning"), rows)


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"`{{{', '.join(f'{key}: {one}' for key, one in value.model_dump().items())}}}`"
    if value == ():
        return "`[]`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def settings_table() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = (
            ""
            if field.default in (PydanticUndefined, "")
            else f"`{int(field.default) if field.default is False else field.default}`"
        )
        rows.append((f"`SIGHTLINE_{name.upper()}`", IN_WORKSPACE.get(name, default), field.description or ""))
    return table(("variable", "on a laptop", "meaning"), rows)


def findings_table() -> str:
    heading = ("code", "what is wrong", "publish", "record", "`fix` means")
    return table(
        heading,
        [
            (f"`{code}`", MEANINGS[code], PUBLISHING_DEFAULTS[code], DEFAULTS[code], FIXES.get(code, ""))
            for code in Code
        ],
    )


def commands_pages() -> str:
    """Every command: what it does, an example, its arguments and options; those told before are only named."""
    told: dict[tuple[str, str], str] = {}
    return "\n\n".join(
        "\n\n".join(_command(name, purpose, parser, told)) for name, (purpose, parser) in command_parsers().items()
    )


def _command(
    name: str, purpose: str, parser: argparse.ArgumentParser, told: dict[tuple[str, str], str]
) -> Iterator[str]:
    yield f"## {name}"
    yield f"{purpose[0].upper()}{purpose[1:]}."
    yield f"    python pipeline.py {EXAMPLES[name]}"
    rows, before = [], {}
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) or "--workspace" in action.option_strings:
            continue
        written, meaning = _written(action), action.help or ""
        if (earlier := told.setdefault((written, meaning), name)) != name:
            before.setdefault(earlier, []).append(f"`{action.option_strings[-1]}`")
        else:
            rows.append((written, meaning))
    if rows:
        yield table(("argument", "meaning"), rows)
    for earlier, flags in before.items():
        yield f"As for [{earlier}](#{earlier}): {', '.join(flags)}."


def _written(action: argparse.Action) -> str:
    value = action.metavar or ("\\|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = value.replace("\\|", "|") if isinstance(value, str) else " ".join(value)
    if not action.option_strings:
        return f"`{value}`"
    return f"`{', '.join(action.option_strings)}{'' if action.nargs == 0 else f' {value}'}`"


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "recipe": ("recipe.md", recipe_table),
    "settings": ("settings.md", settings_table),
    "findings": ("findings.md", findings_table),
    "parameters": ("steps.md", as_markdown),
    "commands": ("commands.md", commands_pages),
}
"""Mark -> the page that it stands on, and what makes what lies between."""


def written(name: str, text: str) -> str:
    """The text of a page with the table `name` as the code says it."""
    marked = re.compile(rf"<!-- {name}: made by make docs -->\n.*?<!-- end -->", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"docs/{TABLES[name][0]} has no marks for {name}: {MARKS.format(name=name, table='')!r}")
    return marked.sub(lambda _: MARKS.format(name=name, table=f"{TABLES[name][1]()}\n"), text)


def main(arguments: Sequence[str]) -> int:
    different = []
    for name, (page, _) in TABLES.items():
        before = (DOCS / page).read_text()
        if (after := written(name, before)) != before:
            different.append(f"docs/{page}")
            if "--check" not in arguments:
                (DOCS / page).write_text(after)
    if different and "--check" in arguments:
        print(f"{', '.join(different)}: not what the code says any more. Type make docs.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
