"""What doctor says of the versions: whether database, dataset repository and storage hold the same ones, counted."""

import contextlib
import os
from collections.abc import Iterable, Mapping

from laptop.doctor.lines import Line
from laptop.doctor.services import GIT_SECONDS
from laptop.workspace import CONNECTED
from sightline.errors import SightlineError, counted, some_of
from sightline.settings import Settings

REPAIR = (
    "check that SIGHTLINE_DATABASE_URL, SIGHTLINE_DATASET_REPO and SIGHTLINE_STORAGE name one installation's; if they do, "
    "python pipeline.py verify says what each version lacks, and verify --repair restores what it can"
)
SHOWN = 3  # names


def check_versions(settings: Settings) -> list[Line]:
    """A line where each of the three holds versions; one that holds none, or is out of reach, is another check's."""
    with contextlib.suppress(SightlineError, OSError, ImportError):
        return _compare(settings)
    return []


def _compare(settings: Settings) -> list[Line]:
    from sightline.services.database.connection import connect
    from sightline.services.storage.access import open_storage
    from sightline.services.versioning import git
    from sightline.services.versioning.belonging import listings_in, recorded_versions
    from sightline.services.versioning.repository import DatasetRepo
    from sightline.versions import version_tags

    repo = DatasetRepo.of(settings)
    with contextlib.closing(connect(settings.database_url.get_secret_value())) as database:
        published = {tag: one for tag, one in recorded_versions(database).items() if one.published}
        tags = {} if repo.is_to_be_made else version_tags(git.remote_tags(repo.url, repo.author, GIT_SECONDS))
        if not published or not tags:
            return []
        known = recorded_versions(database)  # also what somebody has claimed and tagged since
    lacks = {
        "the repository has no tag": published.keys() - tags,
        "the database has no row": tags.keys() - known.keys(),
    }
    if not os.environ.get(CONNECTED):
        if next(iter(open_storage(settings.storage).list("dvc")), None) is None:
            return []
        lacks["the storage has no list of files"] = published.keys() - listings_in(repo, published)
    return [_told(lacks, published, tags)]


def _told(lacks: Mapping[str, Iterable[str]], published: Iterable[str], tags: Iterable[str]) -> Line:
    stored = "the storage has no list of files"
    counts = [f"{counted(len(set(published)), 'version')} in the database", f"{len(set(tags))} in the repository"]
    if stored in lacks:
        counts.append(f"{len(set(published) - set(lacks[stored]))} of the database's in the storage")
    wrong = [f"{what} of {some_of(sorted(names), SHOWN)}" for what, names in lacks.items() if names]
    if not wrong:
        return Line("versions", "ok", ", ".join(counts))
    return Line("versions", "fail", f"{', '.join(counts)}: {'; '.join(wrong)}", REPAIR)
