"""XML from strangers: no document types, no entities, nothing fetched."""

import io
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring, iterparse

from sightline.annotations.findings import Code
from sightline.formats.folder import Listing
from sightline.formats.reading import Unusable


def parse_xml(listing: Listing, file: str) -> Element:
    """The root element of an XML file.

    Raises:
        Unusable: not XML, cut off, or with a document type or entities, which annotations never need.
    """
    content = listing.read(file)
    try:
        return fromstring(content, forbid_dtd=True)
    except DefusedXmlException as error:
        raise Unusable(
            Code.UNREADABLE_SOURCE,
            f"the XML declares a document type or entities ({type(error).__name__}). Remove them.",
        ) from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise Unusable(
            Code.UNREADABLE_SOURCE, f"not XML, or cut off ({error}). Export it again, or remove it."
        ) from None


def root_tag(listing: Listing, file: str) -> str:
    """The name of an XML file's first element, "" when it is not XML."""
    try:
        with (listing.root / file).open("rb") as stream:
            for _, element in iterparse(io.BytesIO(stream.read(65536)), events=("start",), forbid_dtd=True):
                return str(element.tag)
    except (OSError, DefusedXmlException, ParseError, ValueError, LookupError):
        return ""
    return ""


def text_of(element: Element, path: str, default: str = "") -> str:
    """The text of the element at `path` below, without the spaces around it."""
    return (element.findtext(path) or default).strip()
