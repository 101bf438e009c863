"""Which versions are published, as far as a laptop can tell: by SQL, else by the dataset repository's tags."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from laptop.kubeflow.sql import open_metadata
from sightline.errors import SightlineError
from sightline.versions import BadNameError, Kind, parse_tag, parse_version

GIT_SECONDS = 10.0
"""What a repository may take to list its tags: this is a glance before a run, which does not depend on it."""
NOBODY = ("", "")
"""Reading tags makes no commit."""


def find_published(workspace: Path, kind: Kind) -> dict[str, dict[str, str]]:
    """What the installation that the environment names has published; nothing where neither SQL nor Git can tell.

    A laptop's own database and repository know nothing of a cluster's, and are not asked. One in which nothing is published
    is likely not the one that the cluster uses either.

    Returns:
        category -> its versions, oldest first -> the version's task, empty where only tags are known.
    """
    tasks = _by_sql(workspace, kind) or _by_tags(kind)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for category, version in sorted(tasks, key=lambda each: (each[0], parse_version(each[1]))):
        found[category][version] = tasks[category, version]
    return dict(found)


def _by_sql(workspace: Path, kind: Kind) -> Mapping[tuple[str, str], str]:
    metadata = open_metadata(workspace) if os.environ.get("SIGHTLINE_DATABASE_URL") else None
    if metadata is None or metadata.database is None:
        return {}
    from sightline.references import task_of
    from sightline.services.database.versions import list_versions

    return {(row.category, row.version): task_of(row.recipe) for row in list_versions(metadata.database, kind=kind)}


def _by_tags(kind: Kind) -> Mapping[tuple[str, str], str]:
    url = os.environ.get("SIGHTLINE_DATASET_REPO")
    if not url:
        return {}
    from sightline.services.versioning.git import remote_tags

    try:
        names = remote_tags(url, NOBODY, GIT_SECONDS)
    except SightlineError:
        return {}
    found = {}
    for name in names:
        with contextlib.suppress(BadNameError):  # a tag that people made for themselves
            tag = parse_tag(name)
            if tag.kind == kind:
                found[tag.category, tag.version] = ""
    return found
