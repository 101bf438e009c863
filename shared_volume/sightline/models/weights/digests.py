"""Digests of files of weights: whole ones, and the beginnings that file names end in."""

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Final

ENDINGS: Final = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
"""Of names of files that may hold weights."""
WHOLE: Final = re.compile(r"[0-9a-f]{64}")
_IN_NAME: Final = re.compile(r"-([0-9a-f]{8,64})\.(?:safetensors|pth|pt|ckpt|bin)")


def digest_in(name: str) -> str:
    """The beginning of the file's SHA-256 (8 hex digits or more) that a file name ends in, as mmdet and torchvision publish
    files: `rtmdet_tiny-78e30dcc.pth`. Empty for other names, and for one that ends in a date."""
    found = _IN_NAME.search(name)
    return found[1] if found and found.end() == len(name) and not _is_date(found[1]) else ""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex; an OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_date(digits: str) -> bool:
    if len(digits) != 8 or digits[:2] not in ("19", "20"):
        return False
    try:
        datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return False
    return True
