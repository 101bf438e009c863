"""Which versions are published, as far as a laptop can tell: by SQL, else by the dataset repository's tags."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from laptop.kubeflow.sql import open_metadata
from sightline.errors import SightlineError
from sightline.versions import BadNameError, Kind, parse_tag, parse_version

GIT_SECONDS = 10.0
"""What a repository may take to list its tags: this is a glance before a run, which does not depend on it."""
NOBODY = ("", "")
"""Reading tags makes no commit."""


@dataclass(frozen=True, slots=True)
class Published:
    """The published versions of one kind.

    Attributes:
        versions: category -> its versions, oldest first.
        tasks: category and version -> its task; empty where only tags are known, which do not say it.
    """

    versions: Mapping[str, list[str]]
    tasks: Mapping[tuple[str, str], str] = field(default_factory=dict)


def find_published(workspace: Path, kind: Kind) -> Published | None:
    """What the installation that the environment names has published; None where neither SQL nor Git can tell.

    A laptop's own database and repository know nothing of a cluster's, and are not asked.

    Args:
        workspace: the laptop's.
        kind: of the versions.
    """
    return _by_sql(workspace, kind) or _by_tags(kind)


def _by_sql(workspace: Path, kind: Kind) -> Published | None:
    metadata = open_metadata(workspace) if os.environ.get("SIGHTLINE_DATABASE_URL") else None
    if metadata is None or metadata.database is None:
        return None
    from sightline.references import task_of
    from sightline.services.database.versions import list_versions

    rows = list_versions(metadata.database, kind=kind)
    return _sorted(
        [(row.category, row.version) for row in rows],
        {(row.category, row.version): task_of(row.recipe) for row in rows},
    )


def _by_tags(kind: Kind) -> Published | None:
    url = os.environ.get("SIGHTLINE_DATASET_REPO")
    if not url:
        return None
    from sightline.services.versioning.git import remote_tags

    try:
        names = remote_tags(url, NOBODY, GIT_SECONDS)
    except SightlineError:
        return None
    found = []
    for name in names:
        with contextlib.suppress(BadNameError):  # a tag that people made for themselves
            tag = parse_tag(name)
            if tag.kind == kind:
                found.append((tag.category, tag.version))
    return _sorted(found, {})


def _sorted(found: list[tuple[str, str]], tasks: Mapping[tuple[str, str], str]) -> Published | None:
    """None for nothing at all: an empty place is likely not the one that the cluster uses."""
    versions = defaultdict(list)
    for category, version in sorted(found, key=lambda each: (each[0], parse_version(each[1]))):
        versions[category].append(version)
    return Published(dict(versions), tasks) if versions else None
