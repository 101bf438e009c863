"""Which image of a folder a source means by a name: the one that is called so, else the only one that it can mean."""

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

from sightline.annotations.findings import Code
from sightline.annotations.folder_files import are_copies, likeliest, list_images
from sightline.formats.folder import (
    FOREIGN_SUFFIXES,
    Listing,
    composed,
    safe_name,
    short_name,
    stem_key,
    suffix_of,
    under,
)
from sightline.formats.reading import Ledger, Unusable
from sightline.images.limits import IMAGE_SUFFIXES

_UPLOADED: Final = re.compile(r"[0-9a-f]{8}-(.+)")  # what Label Studio calls an uploaded file


def find_image(listing: Listing, name: str, file: str, folders: Sequence[str], ledger: Ledger) -> str:
    """The image that `file` calls `name`.

    It is looked for in `folders`, then anywhere, below any other folders. Where several would do, the likeliest counts. Where
    none is called so, the only image counts that has the name in another folder, in capitals or small letters, without or
    with another ending; that is noted.

    Args:
        name: as written, with slashes of either kind.
        file: the listed file that names it.
        folders: to look into first, relative to the root; "" is the root.

    Raises:
        Unusable: there is no such image, several that differ, or only a link; or the policy takes no other than that called so.
    """
    try:
        wanted = safe_name(name)
    except Unusable as leads_out:
        return _elsewhere(listing, name, _last(name), file, ledger, leads_out)
    same = {composed(image): image for image in listing.by_name.get(_last(wanted), ())}
    for folder in folders:
        if (found := same.get(composed(under(folder, wanted)))) is not None:
            return found
    if named := [image for key, image in same.items() if f"/{key}".endswith(f"/{wanted}")]:
        return _only_one(listing, named, name, file)
    missing = _missing(listing, name, wanted)
    if missing.code is not Code.MISSING_IMAGE:
        raise missing
    return _elsewhere(listing, name, _last(wanted), file, ledger, missing)


def called(path: str, name: str) -> str:
    """What to call an image that a source calls `name`: that, unless it is no image's name or leads out of the folder."""
    try:
        plain = safe_name(name)
    except Unusable:
        return short_name(path)
    return plain if suffix_of(plain) in IMAGE_SUFFIXES else short_name(path)


def _elsewhere(listing: Listing, name: str, last: str, file: str, ledger: Ledger, missing: Unusable) -> str:
    """The only image that a looser reading of the name fits."""
    for fitting in _looser(listing, last):
        if fitting:
            found = _only_one(listing, fitting, name, file)
            if ledger.wants_fixed(Code.FOUND_ELSEWHERE, file, None, f"the image {name!r} is not there; {found} is."):
                return found
            break
    raise missing


def _looser(listing: Listing, last: str) -> Iterator[list[str]]:
    yield list(listing.by_name.get(last, ()))
    yield list(listing.by_name.get(composed(unquote(last)), ()))  # as in an address
    alike = [image for image in listing.by_stem.get(stem_key(last), ()) if _last(image).casefold() == last.casefold()]
    yield alike or list(listing.by_stem.get(stem_key(f"{last}.jpg"), ()))  # a name without an ending
    yield list(
        listing.by_stem.get(stem_key(last), ()) if suffix_of(last) in (*IMAGE_SUFFIXES, *FOREIGN_SUFFIXES) else ()
    )
    if uploaded := _UPLOADED.match(last):
        yield list(listing.by_name.get(uploaded[1], ()))


def _only_one(listing: Listing, named: list[str], name: str, file: str) -> str:
    """One image of several: the likeliest, or any of copies of one."""
    near = likeliest(named, file, name.replace("\\", "/"))
    if not are_copies(listing.root, near):
        message = f"the image {name!r} could be {list_images(near)}. Add the folder to its name."
        raise Unusable(Code.MISSING_IMAGE, message)
    return near[0]


def _missing(listing: Listing, name: str, wanted: str) -> Unusable:
    """Why there is no such image."""
    if any(f"/{link}".endswith(f"/{wanted}") or link == wanted.partition("/")[0] for link in listing.links):
        return Unusable(
            Code.IMAGE_OUTSIDE, f"the image {name!r} is a link that leads out of the folder. Put the file itself there."
        )
    if any(composed(_last(file)) == _last(wanted) for file in listing.foreign):
        return Unusable(
            Code.UNREADABLE_IMAGE, f"the image {name!r} is of a kind that is not read. Save it as JPEG or PNG."
        )
    return Unusable(
        Code.MISSING_IMAGE, f"the image {name!r} is not in the folder. Put it there, or remove its annotations."
    )


def _last(name: str) -> str:
    return composed(name.replace("\\", "/").rpartition("/")[2])
