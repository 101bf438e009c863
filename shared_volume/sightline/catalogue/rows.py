"""A version's rows against what the version says of itself."""

import contextlib
from collections import Counter
from collections.abc import Mapping

from sightline.catalogue.listing import Rows
from sightline.catalogue.problems import NAMES_SHOWN, Problem, Trouble
from sightline.errors import SightlineError, counted, some_of
from sightline.services.database.connection import Database
from sightline.services.database.versions import Content, VersionRow, list_findings, list_images, list_stages
from sightline.services.versioning.description import FILE, parse_description
from sightline.services.versioning.objects import Objects
from sightline.versions import Tag, annotated_category, make_tag


def read_content(objects: Objects, listing: Mapping[str, str]) -> Content | None:
    """A version's description, or None where it has none (versions of early installations) or it cannot be had."""
    if FILE in listing:
        with contextlib.suppress(SightlineError):
            return parse_description(objects.read(listing[FILE]), FILE)
    return None


def read_rows(database: Database, version: VersionRow) -> Content:
    """What the database says of a published version."""
    images, findings = list_images(database, version.id), list_findings(database, version.id)
    return Content(images, findings, version.recipe or {}, list_stages(database, version.id))


def missing_rows(content: Content | None) -> Problem:
    """The problem of a version whose tag is public and whose rows are not there."""
    remedy = "--repair writes them from the version's own description"
    if content is None:
        remedy = f"it has no readable {FILE} to write them from: restore the database, or publish the same files as a new version"
    message = "its tag is public, but the database has no rows of it"
    return Problem(Trouble.ROWS_MISSING, message, remedy, content is not None)


def check_rows(version: VersionRow, digest: str, in_sql: Content, content: Content | None) -> list[Problem]:
    """Whether a published version's rows agree with each other, with the pointer's digest and with the description."""
    wrong, files = [], []
    if version.digest != digest:
        wrong.append(f"the digest is {version.digest}, at the tag it is {digest}")
    images, objects = len(in_sql.images), sum(image.annotation_count for image in in_sql.images)
    if (images, objects) != (version.image_count, version.annotation_count):
        said = f"{version.image_count} images and {version.annotation_count} objects"
        wrong.append(f"the version says {said}, its image rows {images} and {objects}")
    if content is not None:
        one, other = ({image.name: image for image in rows.images} for rows in (in_sql, content))
        files = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        if files:
            wrong.append(f"{counted(len(files), 'image')}: {some_of(files, NAMES_SHOWN)}")
        if Counter(in_sql.findings) != Counter(content.findings):
            wrong.append(f"{len(in_sql.findings)} findings instead of {len(content.findings)}, or others")
        if list(in_sql.stages) != list(content.stages):
            wrong.append("the stages")
        if dict(in_sql.recipe) != dict(content.recipe):
            wrong.append("the recipe")
    if not wrong:
        return []
    remedy = "--repair writes them again from the version's own description"
    if content is None:
        remedy = f"restore the database from a backup: the version has no {FILE} to write them from"
    message = f"the rows are not those that were published: {'; '.join(wrong)}"
    return [Problem(Trouble.ROWS_DIFFER, message, remedy, content is not None, tuple(files))]


def parent_of(tag: Tag, recipe: Mapping[str, object], rows: Rows) -> tuple[str, VersionRow | None]:
    """The tag of the annotation version that a dataset was made from (empty when there is none), and its published row."""
    version = recipe.get("annotation_version")
    if tag.kind != "dataset" or not version:
        return "", None
    name = make_tag(annotated_category(tag.category), "annotation", str(version))
    row = rows.get(name)
    return name, row if row is not None and row.status == "published" else None


def check_parent(tag: Tag, version: VersionRow, recipe: Mapping[str, object], rows: Rows) -> list[Problem]:
    """Whether a dataset version's row names the annotation version that it was made from."""
    name, parent = parent_of(tag, recipe, rows)
    if not name or (parent is not None and version.parent_id == parent.id):
        return []
    none = f"its annotation version {name} has no published rows"
    message = none if parent is None else f"its row does not name its annotation version {name}"
    return [Problem(Trouble.PARENT_MISSING, message, f"--repair mends {name} first, then this row", True)]
