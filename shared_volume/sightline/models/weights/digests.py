"""What names of files of weights tell: that they are some, and how their digest begins."""

import re
from datetime import datetime
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


def _is_date(digits: str) -> bool:
    if len(digits) != 8 or digits[:2] not in ("19", "20"):
        return False
    try:
        datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return False
    return True
