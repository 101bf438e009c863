"""Addresses of files on web servers: which may be asked, and how they may be printed."""

import re
from typing import Final
from urllib.parse import urlsplit

from sightline.services.storage.base import StorageError

THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")


def shown(address: str) -> str:
    """The address as it may be printed: without user, password, and what stands after `?`, which may be a key."""
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        proper = parts.hostname and (parts.port or True)
    except ValueError:
        proper = False
    if not proper:  # a password with a slash, perhaps
        return re.sub(r"(\w+://)\S*@", r"\1…@", address).partition("?")[0]
    user = "…@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{user}{host}{parts.path}{'?…' if parts.query else ''}"


def check_address(address: str, checked: bool) -> None:
    """A StorageError for what is no address of a file, and for http where neither a whole digest nor this machine vouches."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        proper = bool(host) and parts.port != 0 and parts.scheme in ("https", "http")
    except ValueError:
        proper = False
    if not proper or re.search(r"\s", address):
        raise StorageError(f"{shown(address)} is not the address of a file. Write https://server/path/file.")
    if parts.scheme == "http" and not checked and host not in THIS_MACHINE:
        raise StorageError(
            f"{shown(address)} would come without encryption, so anybody on the way could change it. Write https://, or add the file's "
            "digest: #sha256=<64 hex digits>."
        )
