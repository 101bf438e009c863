"""A category's split file: images whose split somebody has chosen."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from sightline.errors import SightlineError, clause, nearest
from sightline.services.versioning.shards import SPLITS

_MAPPINGS: Final = frozenset({".json", ".yaml", ".yml"})
_HEADERS: Final = frozenset({"name", "image", "file", "file_name"})


class SplitFileError(SightlineError):
    """A split file that cannot be used."""


def read_split_file(path: Path, shown_as: Path | None = None) -> dict[str, str]:
    """Which image stays in which split: name -> train, val or test.

    A `.json`, `.yaml` or `.yml` file maps splits to lists of names. Any other has a line `name,split` for each image, in
    quotes where a name has a comma; a first line `name,split` is a heading. Messages call the file `shown_as`, where its own
    path says nothing to a user.

    Raises:
        SplitFileError: missing, malformed, a split that does not exist, or an image in two splits.
    """
    shown = shown_as or path
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SplitFileError(f"{shown}: the split file cannot be read ({error.strerror}). Put it there.") from None
    except UnicodeDecodeError as error:
        raise SplitFileError(f"{shown}: the split file is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    entries = _entries_of_mapping(shown, text) if shown.suffix.lower() in _MAPPINGS else _entries_of_lines(shown, text)
    listed: dict[str, str] = {}
    for where, name, split in entries:
        if split not in SPLITS:
            raise SplitFileError(
                f"{shown}, {where}: there is no split {split!r}.{nearest(split, SPLITS)} "
                f"Write one of {', '.join(SPLITS)}."
            )
        if listed.setdefault(name, split) != split:
            raise SplitFileError(
                f"{shown}, {where}: {name} is already listed in {listed[name]}. Remove one of the two."
            )
    return listed


def _entries_of_lines(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """(where, name, split) of each line that is not empty."""
    lines = csv.reader(text.splitlines(), skipinitialspace=True, strict=True)
    try:
        for row in lines:
            cells = [cell.strip() for cell in row]
            heading = lines.line_num == 1 and len(cells) == 2 and cells[0].lower() in _HEADERS and cells[1] == "split"
            if not any(cells) or heading:
                continue
            if len(cells) != 2 or not cells[0]:
                raise SplitFileError(
                    f"{path}, line {lines.line_num}: not of the form `name,split`. Put a name that has a comma in quotes."
                )
            yield f"line {lines.line_num}", cells[0], cells[1]
    except csv.Error as error:
        raise SplitFileError(
            f"{path}, line {lines.line_num}: {clause(error)}. Write a line `name,split` per image."
        ) from None


def _entries_of_mapping(path: Path, text: str) -> Iterable[tuple[str, str, str]]:
    try:
        content: Any = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise SplitFileError(f"{path}: malformed: {' '.join(str(error).split())}") from None
    lists = content.items() if isinstance(content, dict) else ()
    if not lists or not all(
        isinstance(names, list) and all(isinstance(one, str) for one in names) for _, names in lists
    ):
        raise SplitFileError(
            f"{path}: a split file maps splits to lists of image names, like `test: [a.jpg, b.jpg]`. Put names that YAML "
            "takes for something else in quotes."
        )
    return [(f"{split}", name, str(split)) for split, names in lists for name in names]
