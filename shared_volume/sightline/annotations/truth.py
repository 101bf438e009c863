"""The truth of a split, as a dataset version keeps it in a file: COCO's lists, whatever the task."""

import shutil
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


class TruthFile:
    """A split's file, written a part at a time: the bytes that `write_truth` would write of the whole, and little memory.

    Each part is a truth of its own, of the next images, with ids from 1. It has the same other keys as the first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: dict[str, Any] = {}
        self._counts = dict.fromkeys(LISTS[:2], 0)
        self._lists = {name: path.with_name(f".{path.name}-{name}") for name in self._counts}

    def add(self, part: dict[str, Any]) -> None:
        """Write a part, whose ids go on where those of the parts before it ended, in place."""
        images, annotations = self._counts.values()
        for image in part["images"]:
            image["id"] += images
        for annotation in part["annotations"]:
            annotation["id"] += annotations
            annotation["image_id"] += images
        self._first = self._first or {key: None if key in self._counts else value for key, value in part.items()}
        for name, path in self._lists.items():
            with path.open("ab") as file:
                if part[name]:
                    file.write(b"," * bool(self._counts[name]) + orjson.dumps(part[name])[1:-1])
            self._counts[name] += len(part[name])

    def close(self) -> None:
        """Put the parts together; there has to be one at least, which may be of no images."""
        with self._path.open("wb") as file:
            for number, (key, value) in enumerate(self._first.items()):
                file.write((b"," if number else b"{") + orjson.dumps(key) + b":")
                if key not in self._lists:
                    file.write(orjson.dumps(value))
                    continue
                with self._lists[key].open("rb") as parts:
                    file.write(b"[")
                    shutil.copyfileobj(parts, file)
                    file.write(b"]")
                self._lists[key].unlink()
            file.write(b"}\n")


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
