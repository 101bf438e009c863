"""Check a folder of annotated images, copy it as labelme files, and publish the copy."""

import contextlib
import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from sightline.annotations.check import AnnotatedBy, tell_class
from sightline.annotations.findings import (
    Code,
    Finding,
    FindingsError,
    Outcome,
    Policy,
    explain_findings,
    require_none_fails,
)
from sightline.annotations.labelme import edit_document, format_document
from sightline.annotations.read import Annotated, join_stamps, stamp_of
from sightline.annotations.recipe import Recipe, read_recipe
from sightline.annotations.split_file import read_split_file
from sightline.errors import SightlineError
from sightline.formats.convert import Source, as_labelme
from sightline.formats.detect import LABELME
from sightline.formats.splits import usable_splits
from sightline.processes.folders import private_folder
from sightline.processes.threads import available_cores
from sightline.publish.items import Item, check_folder
from sightline.references import DETECTION, task_of
from sightline.services.database.connection import connect
from sightline.services.database.versions import FindingRow, ImageRow, known_hashes
from sightline.services.runs.homes import recipe_file
from sightline.services.storage.base import in_parallel
from sightline.services.versioning.adding import NewFiles
from sightline.services.versioning.belonging import require_one_installation
from sightline.services.versioning.publication import FOLDERS, Content, Publication, Services, publish
from sightline.services.versioning.repository import DatasetRepo
from sightline.services.versioning.shards import SPLITS_FILE
from sightline.settings import Settings
from sightline.tasks.task import CLASSIFICATION, Task, require_task
from sightline.versions import check_own_category, make_tag, parse_version

_SIZES: Final = frozenset({Code.NO_SIZE, Code.WRONG_SIZE, Code.SWAPPED_SIZE, Code.RESIZED})
_HEADING: Final = ("name", "split")  # of the file of splits
_LONGEST_HEADING: Final = 99  # bytes that are looked at
_ADVICE: Final = (
    "Nothing was published. Correct these files or move them out of the folder, then run the same command again; or choose "
    "another outcome with --policy CODE=OUTCOME, or under `policy` in the category's recipe."
)


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a folder."""

    publication: Publication
    findings: tuple[Finding, ...]  # what was corrected or left out, by file
    labels: Mapping[str, int]  # class or label -> how many images or shapes have it
    form: str  # the format that the folder was read in
    unread: int  # images of a folder taken for detection's that have flags and no shape
    splits: Mapping[str, int]  # the source's own split -> how many images it has there

    @property
    def left_out(self) -> int:
        """How many images were left out because they have no JSON."""
        return sum(found.code is Code.NOT_ANNOTATED and found.outcome is Outcome.DROP for found in self.findings)


@dataclass(frozen=True, slots=True)
class _Usable:
    """What of a folder can be published for a task, and everything found."""

    task: str
    annotated_by: AnnotatedBy
    items: list[Item]  # emptied when they are written
    findings: Sequence[Finding]
    labels: Counter[str]
    unread: int


def publish_annotations(
    settings: Settings,
    folder: Path,
    category: str,
    version: str,
    form: str = "labelme",
    policy: Mapping[str, str] | None = None,
    task: str = "",
) -> Published:
    """Publish a folder's annotated images as an annotation version; the folder itself stays as it is.

    The copied JSON is as the annotator wrote it, without an embedded image, and with what the policy corrects about the
    file as a whole: its image's path and size. `form` is one of `formats.convert.FORMS`. `policy`, {code: outcome}, wins
    over the category's recipe. Without `task` the files tell what is to be learnt: images with flags and no shape are to
    be classified.

    Raises:
        FindingsError: files that the policy does not let pass; names the first ten.
        SightlineError: a name is malformed, nothing is annotated, the version is taken, or a service failed.
    """
    check_own_category(category)
    parse_version(version)
    services = Services(DatasetRepo.of(settings), connect(settings.database_url.get_secret_value()))
    require_one_installation(services.repo, services.database, make_tag(category, "annotation", version))
    recipe, chosen = _recipe_and_policy(settings, category, policy or {})
    with private_folder(settings.volume / "sources", ".reading-") as scratch:
        source = as_labelme(folder, form, scratch / "labelme", chosen)
        services.database.migrate()
        items, found = check_folder(source.folder, scratch, chosen, known_hashes(services.database, category))
        found = [replace(finding, file=source.made.get(finding.file, finding.file)) for finding in found]
        usable = _choose(items, [*source.findings, *found], task, recipe, chosen)
        del items
        _require_usable(folder, usable)
        splits = _splits(source, usable.items)
        files = NewFiles(services.repo.cache)
        build = partial(_build, source.folder, usable, splits, files)
        publication = publish(services, category, "annotation", version, build, noted=files.noted)
    row = publication.row
    if splits and SPLITS_FILE not in services.repo.objects(FOLDERS["annotation"]).listing(str(row.digest)):
        splits = {}  # published before a source's own splits were kept
    if (published_for := task_of(row.recipe)) != usable.task:
        raise SightlineError(
            f"{row.category} {row.version} is published with the same content, for {published_for}. A published version "
            f"never changes: publish it for {usable.task} as another version."
        )
    return Published(
        publication, tuple(usable.findings), usable.labels, source.form, usable.unread, Counter(splits.values())
    )


def _recipe_and_policy(settings: Settings, category: str, chosen: Mapping[str, str]) -> tuple[Recipe, Policy]:
    code = settings.volume / "code"
    file = recipe_file(code, category)
    recipe = read_recipe(code / file if file else None, shown_as=file)
    return recipe, Policy.of({**recipe.policy, **chosen}).publishing()


def _choose(items: list[Item], found: Sequence[Finding], task: str, recipe: Recipe, policy: Policy) -> _Usable:
    """What can be published for the task; without one for that which the documents are annotated for."""
    unread = 0 if task else sum(map(_is_only_flagged, items))
    if not task:
        drawn = any(item.types for item in items)
        task = CLASSIFICATION if unread and not drawn else DETECTION
    require_task(task)
    annotated_by = Task(task).data.ANNOTATED_BY
    if annotated_by == "flags":
        items, unclear = _of_one_class(items, recipe, policy)
        found = [*found, *unclear]
    labels = Counter[str]()
    for item in items:
        labels.update(_labels(item, annotated_by))
    findings = sorted(found, key=lambda finding: (finding.file, finding.code))
    return _Usable(task, annotated_by, items, findings, labels, 0 if annotated_by == "flags" else unread)


def _of_one_class(items: Iterable[Item], recipe: Recipe, policy: Policy) -> tuple[list[Item], list[Finding]]:
    """The images whose flags name one class, and a finding on each other.

    A class that the recipe does not want is left to record, as shapes of such labels are.
    """
    kept, findings = [], []
    for item in items:
        told = tell_class(item.annotated.document, recipe)
        if isinstance(told, str) or told[0] is Code.LABEL_NOT_VALID:
            kept.append(item)
        else:
            findings.append(policy.finding(told[0], item.annotated.file, None, told[1]))
    return kept, findings


def _require_usable(folder: Path, usable: _Usable) -> None:
    try:
        require_none_fails(usable.findings, _ADVICE)
    except FindingsError as error:
        if usable.labels or Outcome.FIX in error.choices.values():
            raise
        raise FindingsError(
            f"{error}\nNothing else in the folder is annotated, so that to leave these out would publish nothing."
        ) from None
    if usable.labels:
        return
    what = "a shape drawn on it" if usable.annotated_by == "shapes" else "one flag that says what it shows"
    types = sorted({one for item in usable.items for one in item.types})
    advice = "Annotate some with labelme first."
    if usable.findings:
        advice = explain_findings(usable.findings)
    elif types and usable.annotated_by == "shapes":
        advice = f"There are shapes ({', '.join(types)}), but none that encloses an area, from which detection learns: draw polygons or rectangles."
    raise SightlineError(f"{folder}: no image has {what} that can be used. {advice}")


def _is_only_flagged(item: Item) -> bool:
    return not item.types and any(item.annotated.document.flags.values())


def _labels(item: Item, annotated_by: AnnotatedBy) -> Mapping[str, int]:
    """Label -> how often the image has it, by label."""
    if annotated_by == "flags":
        return dict.fromkeys(sorted(name for name, ticked in item.annotated.document.flags.items() if ticked), 1)
    return item.labels


def _splits(source: Source, items: Iterable[Item]) -> dict[str, str]:
    """Image's name in the version -> its split, where the source is split, or was an annotation version that is."""
    given = source.folder / SPLITS_FILE
    is_given = source.form == LABELME and _lists_splits(given)
    own = read_split_file(given, Path(SPLITS_FILE)) if is_given else source.splits
    stored = {item.annotated.image: item.annotated.stored_image for item in items}
    return usable_splits({stored[image]: split for image, split in own.items() if image in stored})


def _lists_splits(file: Path) -> bool:
    """Whether a file has the heading of a version's splits; of other tools' files of that name nothing is read."""
    with contextlib.suppress(OSError):
        if not file.is_file():
            return False
        with file.open("rb") as lines:
            return lines.readline(_LONGEST_HEADING).removeprefix(b"\xef\xbb\xbf").strip() == ",".join(_HEADING).encode()
    return False


def _build(folder: Path, usable: _Usable, splits: Mapping[str, str], files: NewFiles, target: Path) -> Content:
    """Write the version's files into `target`, and say what its rows are."""
    files.begin(target)
    if splits:
        with (target / SPLITS_FILE).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([_HEADING, *sorted(splits.items())])
    rows: list[ImageRow] = []
    try:
        in_parallel(
            lambda item: rows.append(_copy(folder, item, files, usable.annotated_by)), usable.items, available_cores()
        )
    except OSError as error:
        reason = error.strerror or error
        raise SightlineError(
            f"{error.filename or target}: cannot be copied ({reason}). Nothing was published; make room, or check its permissions."
        ) from None
    usable.items.clear()  # of hundreds of thousands: the upload takes memory too
    return Content(
        images=sorted(rows, key=lambda row: row.name),
        findings=[FindingRow(**finding.to_json()) for finding in usable.findings],
        recipe={} if usable.task == DETECTION else {"task": usable.task},
    )


def _was_changed(folder: Path, annotated: Annotated) -> bool:
    """Whether a file is another than when it was read first: what is known of it may not hold of what was copied."""
    return annotated.stamp != join_stamps(stamp_of(folder / name) for name in annotated.files)


def _copy(folder: Path, item: Item, files: NewFiles, annotated_by: AnnotatedBy) -> ImageRow:
    annotated = item.annotated
    size, sha256 = files.copy(item.image, annotated.stored_image)
    if annotated.has_json:
        path = annotated.stored_image.removeprefix(annotated.stored_file[: annotated.stored_file.rfind("/") + 1])
        changes: dict[str, Any] = {"imageData": None, "imagePath": path}
        if any(found.code in _SIZES for found in annotated.findings):
            changes |= {"imageHeight": annotated.header.height, "imageWidth": annotated.header.width}
        shapes = annotated.document.shapes if annotated.resized else ()
        files.write(annotated.stored_file, edit_document(folder / annotated.file, changes, shapes))
    else:
        files.write(annotated.stored_file, format_document(annotated.document))
    if sha256 != item.sha256 or _was_changed(folder, annotated):
        raise SightlineError(
            f"{annotated.image} or its annotation was changed while the folder was read. Nothing was published; run the same "
            "command again."
        )
    labels = _labels(item, annotated_by)
    return ImageRow(
        name=annotated.stored_image,
        split=None,
        width=annotated.header.width,
        height=annotated.header.height,
        bytes=size,
        sha256=sha256,
        annotation_count=sum(labels.values()),
        perceptual_hash=item.perceptual_hash,
        labels=labels,
    )
