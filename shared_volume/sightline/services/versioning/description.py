"""What a version says of itself, in a hidden file among its own: rows that can be written again."""

from pathlib import Path
from typing import Final

import orjson

from sightline.errors import SightlineError
from sightline.services.database.versions import Content, FindingRow, ImageRow, StageRow

FOLDER: Final = ".sightline"  # hidden: no reader of annotations looks into it
FILE: Final = f"{FOLDER}/version.json"


def write_description(folder: Path, content: Content) -> None:
    """Write a version's description into its folder; same content, same bytes."""
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def parse_description(data: bytes, where: str) -> Content:
    """The description that a file's content is; a SightlineError, which names `where` it lies, if it is damaged."""
    try:
        document = orjson.loads(data)
        return Content(
            images=[ImageRow(**row) for row in document["images"]],
            findings=[FindingRow(**row) for row in document["findings"]],
            recipe=document["recipe"],
            stages=[StageRow(**row) for row in document["stages"]],
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise SightlineError(
            f"{where}: the version's description is damaged ({error}). Publish the version again."
        ) from None
