"""Settings whose name nothing reads: the setting that was meant keeps its default, and nothing else says so."""

import os
import re
from typing import Final

from laptop.compiling import INSTALLATION
from laptop.doctor.lines import Line
from laptop.workspace import CONNECTED
from sightline.errors import did_you_mean
from sightline.settings import Settings

_PREFIX: Final = "SIGHTLINE_"
_FURTHER: Final = {"TIMEOUT", "PARENT", "PROGRESS", "REGISTRY", "TAG", "DIGESTS", CONNECTED.removeprefix(_PREFIX)}
# What Kubernetes says of services called sightline-…
_OF_SERVICES: Final = re.compile(r"_SERVICE_(HOST|PORT\w*)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")


def check_names() -> list[Line]:
    """A line for each such name; none where there is none."""
    known = {name.upper() for name in (*Settings.model_fields, *INSTALLATION, *_FURTHER)}
    given = [name.removeprefix(_PREFIX) for name in sorted(os.environ) if name.startswith(_PREFIX)]
    do = "correct its name, or unset it; docs/settings.md lists all"
    return [
        Line("settings", "note", f"nothing reads {_PREFIX}{name}.{_meant(name, known)}", do)
        for name in given
        if name not in known and not _OF_SERVICES.search(name)
    ]


def _meant(name: str, known: set[str]) -> str:
    """Compared without what all begin with, by which any two would be near."""
    return did_you_mean(name, known).replace(" '", f" '{_PREFIX}", 1)
