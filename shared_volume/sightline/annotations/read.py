"""Stage 1: find an annotation folder's documents and read each with its image's header."""

import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sightline.annotations.encoding import told_encoding
from sightline.annotations.findings import Code, Finding, LeftOut, Notes, Policy
from sightline.annotations.folder_files import (
    FolderFiles,
    Photographs,
    beside_of,
    find_files,
    is_plain,
    lies_within,
    list_images,
    show_name,
)
from sightline.annotations.labelme import Document, ImagePathError, read_document, read_embedded_image
from sightline.annotations.resize import find_factors, resize_shape
from sightline.errors import SightlineError
from sightline.images import files as images
from sightline.images.files import ImageHeader
from sightline.images.limits import IMAGE_SUFFIXES

_SUFFIXES: Final = {
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png",),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_LONGEST_EMBEDDED: Final = 200  # bytes of a name that an embedded image is written out by
_CODES: Final[dict[type[SightlineError], Code]] = {
    images.MissingImageError: Code.MISSING_IMAGE,
    images.ImageTooLargeError: Code.IMAGE_TOO_LARGE,
    images.TruncatedImageError: Code.TRUNCATED_IMAGE,
}


@dataclass(frozen=True, slots=True)
class Annotated:
    """A document and its image."""

    file: str  # the JSON, relative to the annotation folder, with forward slashes
    image: str  # the image file, likewise
    document: Document
    header: ImageHeader
    findings: tuple[Finding, ...] = ()  # what was wrong with the two, and is corrected by reading them as here
    has_json: bool = True  # False for an image kept as a background, whose empty JSON is yet to be written
    has_image: bool = True  # False when the image is in the JSON only, and is yet to be written out
    resized: bool = False  # whether `document` was drawn on another size of the photograph, and is scaled to this
    stored: str = ""  # what the image is called in a version, where its own name would part it from its JSON
    stamp: int = 0  # `stamp_of` its files before they were read

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the two that are files of the folder."""
        return (self.file,) * self.has_json + (self.image,) * self.has_image

    @property
    def stored_image(self) -> str:
        """The image's name in a version."""
        return self.stored or self.image

    @property
    def stored_file(self) -> str:
        """The JSON's name in a version, where it lies in its image's folder or above."""
        return f"{self.stored.rpartition('.')[0]}.json" if self.stored else self.file


def stamp_of(path: Path) -> int:
    """A number that changes when a file is written or replaced; 0 where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0
    return hash((found.st_mtime_ns, found.st_size, found.st_ino))


def join_stamps(stamps: Iterable[int]) -> int:
    """One number for those of several files."""
    return hash(tuple(stamps))


def read_annotations(
    folder: Path, max_pixels: int, policy: Policy | None = None, write_embedded: bool = False
) -> Iterator[Annotated | Finding]:
    """Read every document of a folder with its image's header, sorted by name; what cannot be used is a finding.

    Images of more than `max_pixels` are not used; those that are in their JSON only are with `write_embedded`, and then
    the caller writes them out. SightlineError when there is no such folder, or no JSON in it.
    """
    files = find_files(folder)
    reader = _Reader(folder, files, max_pixels, policy or Policy(), write_embedded)
    taken: dict[str, str] = {}
    unread: set[str] = set()
    for file in files.documents:
        for read in reader.read(file):
            if isinstance(read, Finding):
                unread.add(file.rpartition(".")[0])
            if isinstance(read, Annotated) and (other := taken.setdefault(read.image, file)) != file:
                message = f"{read.image} is already annotated in {other}. Merge the two files."
                yield reader.notes.policy.finding(Code.IMAGE_TWICE, file, None, message)
            else:
                yield read
    for image in files.images:
        if image not in reader.meant and image.rpartition(".")[0] not in unread:
            yield from reader.read_alone(image)


class _Reader:
    """Reads one document after the other, noting what is found on the way."""

    def __init__(self, folder: Path, files: FolderFiles, max_pixels: int, policy: Policy, write_embedded: bool):
        self.folder, self.files, self.notes = folder, files, Notes(policy, "")
        self.max_pixels, self.write_embedded = max_pixels, write_embedded
        self._photographs, self._documents = Photographs(files), set(files.documents)
        self._named: set[str] = set()  # JSON of backgrounds
        self.meant: set[str] = set()  # images that a document names, whatever became of it
        self._file = ""
        self._image_stamp = 0

    def read(self, file: str) -> Sequence[Annotated | Finding]:
        """A document with its image and what is corrected on it; or why it cannot be used."""
        self._file, self.notes = file, Notes(self.notes.policy, show_name(file))
        stamp = stamp_of(self.folder / file)
        try:
            document, image = self._document()
            if document.encoding:
                labels = [*document.flags, *[shape.label for shape in document.shapes]]
                self.notes.mend(Code.OTHER_ENCODING, told_encoding(document.encoding, labels))
            image, header, has_image = self._image(document, image)
            self._check_image(image, header)
            sized = self._sized(document, header)
            found, resized = tuple(self.notes.findings), sized is not document
            return [
                Annotated(
                    file,
                    image,
                    sized,
                    header,
                    found,
                    has_image=has_image,
                    resized=resized,
                    stored=self._stored(image, has_image),
                    stamp=join_stamps([stamp, self._image_stamp] if has_image else [stamp]),
                )
            ]
        except LeftOut:
            return self.notes.findings

    def read_alone(self, image: str) -> Sequence[Annotated | Finding]:
        """An image without a JSON: with an empty document where the policy keeps it as a background."""
        self._file, self.notes = image, Notes(self.notes.policy, show_name(image))
        try:
            self.notes.mend(Code.NOT_ANNOTATED, "no file annotates the image.")
            self._refuse_unusable(image)
            header = self._header(image, self.folder / image)
            self._check_image(image, header)
        except LeftOut:
            return self.notes.findings
        file = f"{image.rpartition('.')[0]}.json"
        if file in self._named or file in self._documents:  # a.jpg and a.png
            file = f"{image}.json"
        self._named.add(file)
        document = Document(image.rpartition("/")[2], header.height, header.width, ())
        stamp = join_stamps([self._image_stamp])
        return [Annotated(file, image, document, header, tuple(self.notes.findings), has_json=False, stamp=stamp)]

    def _refuse_unusable(self, name: str) -> None:
        """Nothing but plain files with plain names is opened, and no link that leads out of the folder."""
        if name in self.files.unusable:
            self.notes.leave_out(Code.BAD_NAME, f"{show_name(name)}: {self.files.unusable[name]}")
        if name in self.files.links:
            self._require_within(name, self.folder)

    def _require_within(self, name: str, folder: Path) -> None:
        if not lies_within(self.folder / name, folder):
            message = f"{show_name(name)} is a link that leads out of the JSON's folder. Put the file itself there."
            self.notes.leave_out(Code.IMAGE_OUTSIDE, message)

    def _document(self) -> tuple[Document, str]:
        """The document, and which of the folder's images it is of; empty where its imagePath has yet to be looked up."""
        self._refuse_unusable(self._file)
        path = self.folder / self._file
        try:
            return read_document(path), ""
        except ImagePathError as error:
            document = read_document(path, error.name or "image")
            return document, self._leads_out(document, error, _without_path(error, path))
        except SightlineError as error:
            self.notes.leave_out(Code.UNREADABLE_JSON, _without_path(error, path))

    def _leads_out(self, document: Document, error: ImagePathError, message: str) -> str:
        """The image of a path that leads out of the JSON's folder: at its end within the folder, or by its name."""
        whole = posixpath.normpath(beside_of(self._file, error.path))
        found = [whole] if whole in self._photographs else self._photographs.named(error.name, error.path, self._file)
        if document.embedded and not self._lie_beside(found):
            return ""
        if len(found) == 1:
            told = f"imagePath leads out of the JSON's folder; the photograph is {found[0]}."
            asked = Code.IMAGE_OUTSIDE in self.notes.policy.chosen
            self.notes.mend(Code.IMAGE_OUTSIDE if asked else Code.FOUND_ELSEWHERE, told)
            return found[0]
        if found:
            self.notes.leave_out(Code.IMAGE_OUTSIDE, f"{message} It could be {list_images(found)}.")
        if not document.embedded:
            self.notes.leave_out(Code.IMAGE_OUTSIDE, message)
        return ""

    def _lie_beside(self, images: Sequence[str]) -> bool:
        """Whether the one image that a path may mean lies in the JSON's folder; another is not preferred to an embedded one."""
        return len(images) == 1 and images[0].rpartition("/")[0] == self._file.rpartition("/")[0]

    def _stored(self, image: str, has_image: bool) -> str:
        """What to call an image in a version that is not below its JSON: there both lie in one folder."""
        if not has_image or image.startswith(beside_of(self._file, "")):
            return ""
        short = "/".join(
            [part for part in image.split("/")[:-1] if part.lower() != "images"] + [image.rpartition("/")[2]]
        )
        json = f"{short.rpartition('.')[0]}.json"
        free = short not in self._photographs and json not in self._documents and json not in self._named
        stored = short if free else image
        self._named.add(f"{stored.rpartition('.')[0]}.json")
        return stored

    def _image(self, document: Document, image: str) -> tuple[str, ImageHeader, bool]:
        """The image's name and header, and whether it is a file. `image` is what is known of it."""
        image = self._photographs.spelt(image or beside_of(self._file, document.image_path))
        if image not in self._photographs:
            self._refuse_unusable(image)
            image = self._unlisted(document, image)
            if not os.path.lexists(self.folder / image):
                return self._embedded(image)
        image = self._whose(image)
        self.meant.add(image)
        return image, self._header(image, self.folder / image), True

    def _unlisted(self, document: Document, image: str) -> str:
        """The image that is meant by the name of none: a file without an image's ending, the only other one, or an embedded one."""
        hidden = any(part.startswith(".") for part in document.image_path.split("/"))
        if not hidden:
            self._require_within(image, (self.folder / self._file).parent)
            if os.path.lexists(self.folder / image) and not image.endswith(".json"):
                return image
        path = document.image_path
        found = [] if hidden else self._photographs.named(path.rpartition("/")[2], path, self._file)
        if document.embedded and not self._lie_beside(found):
            found = []
        if len(found) == 1:
            self.notes.mend(Code.FOUND_ELSEWHERE, f"{show_name(image)} is not there; {found[0]} is.")
            return found[0]
        if document.embedded:
            return image.removesuffix(".json") if image.endswith(".json") else image
        if found:
            self.notes.leave_out(
                Code.MISSING_IMAGE, f"{show_name(image)} is not there; it could be {list_images(found)}."
            )
        if hidden or image.endswith(".json"):
            self.notes.leave_out(Code.MISSING_IMAGE, f"{show_name(image)} is hidden, or not an image. Rename it.")
        self._header(image, self.folder / image)  # says what is wrong with it
        return image

    def _whose(self, image: str) -> str:
        """The image, unless it has a JSON of its own name: then this JSON is of the image that is called like it."""
        stem = self._file.rpartition(".")[0]
        if stem == image.rpartition(".")[0]:
            return image
        rivals = {f"{image.rpartition('.')[0]}.json", f"{image}.json"} & self._documents
        if stem == image or not rivals:
            return image
        own = self._photographs.own(self._file)
        if not own:
            message = f"it names {image}, which has a JSON of its own: {min(rivals)}. Correct imagePath, or merge the two files."
            self.notes.leave_out(Code.IMAGE_TWICE, message)
        self.notes.mend(
            Code.NAMED_OTHERWISE, f"it names {image}, which has a JSON of its own; {own} has the name of this one."
        )
        return own

    def _embedded(self, image: str) -> tuple[str, ImageHeader, bool]:
        message = f"{show_name(image)} is missing: the image is only in the JSON."
        if not self.write_embedded:
            self.notes.leave_out(Code.EMBEDDED_ONLY, f"{message} Save the image beside it.")
        self.notes.mend(Code.EMBEDDED_ONLY, message)
        if not is_plain(image) or len(image.encode(errors="replace")) > _LONGEST_EMBEDDED:
            self.notes.leave_out(Code.BAD_NAME, f"{show_name(image)}: imagePath is no name for a file. Correct it.")
        path = self.folder / self._file
        try:
            data = read_embedded_image(path)
        except SightlineError as error:
            self.notes.leave_out(Code.UNREADABLE_IMAGE, _without_path(error, path))
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch, "image")
            written.write_bytes(data)
            header = self._header(image, written)
        if not image.lower().endswith(tuple(IMAGE_SUFFIXES)):
            image += _SUFFIXES.get(header.format, ("",))[0]
        return image, header, False

    def _header(self, image: str, path: Path) -> ImageHeader:
        self._image_stamp = stamp_of(path)
        try:
            return images.read_header(path, self.max_pixels, whole=True)
        except SightlineError as error:
            code = _CODES.get(type(error), Code.UNREADABLE_IMAGE)
            self.notes.leave_out(code, f"{show_name(image)}: {_without_path(error, path)}")

    def _check_image(self, image: str, header: ImageHeader) -> None:
        suffix = image[image.rfind(".") :].lower()
        if suffix in IMAGE_SUFFIXES and suffix not in _SUFFIXES.get(header.format, IMAGE_SUFFIXES):
            self.notes.mend(Code.WRONG_EXTENSION, f"{image} is a {header.format} file.")
        if header.deep:
            told = f"{image} has more than 8 bits a pixel: it is scaled from its darkest to its lightest."
            self.notes.mend(Code.DEEP_PIXELS, told)
        if header.wide:
            told = f"{image} has 16 bits in each channel, of which the upper 8 are read; if only 10 or 12 are used, it turns black."
            self.notes.mend(Code.DEEP_PIXELS, told)
        if header.orientation != 1:
            self.notes.mend(Code.EXIF_ORIENTATION, f"{image} has the EXIF orientation {header.orientation}.")

    def _sized(self, document: Document, header: ImageHeader) -> Document:
        """The document, scaled to the photograph where that was resized since."""
        written, true = (document.image_width, document.image_height), (header.width, header.height)
        if written == true:
            return document
        size = f"the image measures {header.width} x {header.height}"
        if written[0] is None or written[1] is None:
            self.notes.mend(Code.NO_SIZE, f"the annotation gives no usable image size; {size}.")
            return document
        told = f"the annotation gives the image size {written[0]} x {written[1]}"
        if written == true[::-1]:
            self.notes.mend(
                Code.SWAPPED_SIZE, f"the annotation gives the image size swapped, {written[0]} x {written[1]}; {size}."
            )
        elif factors := find_factors((written[0], written[1]), true):
            self.notes.mend(Code.RESIZED, f"{told}; {size}: its shapes are scaled by {factors[0]:.3g}.")
            shapes = tuple([resize_shape(shape, factors) for shape in document.shapes])
            return replace(document, image_width=true[0], image_height=true[1], shapes=shapes)
        else:
            self.notes.mend(Code.WRONG_SIZE, f"{told}; {size}. It was cropped or replaced since: annotate it again.")
        return document


def _without_path(error: SightlineError, path: Path) -> str:
    """The message without the machine's path, so that findings are the same everywhere."""
    return str(error).removeprefix(f"{path}: ")
