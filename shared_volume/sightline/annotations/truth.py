"""The truth of a split, as a dataset version keeps it in a file: COCO's lists, whatever the task."""

from pathlib import Path
from typing import Any, Final

import orjson

from sightline.errors import SightlineError

LISTS: Final = ("images", "annotations", "categories")


class TruthError(SightlineError):
    """A split's file that cannot be used."""


def write_truth(path: Path, truth: dict[str, Any]) -> None:
    """Write a split's file; same truth, same bytes."""
    path.write_bytes(orjson.dumps(truth, option=orjson.OPT_APPEND_NEWLINE))


def read_truth(path: Path) -> dict[str, Any]:
    """A split's images, annotations and categories; TruthError when it is missing, not JSON, or without those lists."""
    try:
        truth = orjson.loads(path.read_bytes())
    except OSError as error:
        raise TruthError(f"{path}: cannot be read ({error.strerror}). Pull the dataset again.") from None
    except orjson.JSONDecodeError as error:
        raise TruthError(f"{path}: not JSON, or cut off ({error.msg}). Pull the dataset again.") from None
    lists = truth if isinstance(truth, dict) else {}
    missing = [key for key in LISTS if not isinstance(lists.get(key), list)]
    if missing:
        raise TruthError(f"{path}: not a COCO file, without the lists {', '.join(missing)}. Pull the dataset again.")
    return truth
