"""What can be wrong with annotations, and what happens then."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final


class Outcome(StrEnum):
    """What happened because of a finding."""

    FIX = "fix"  # used, after a correction
    DROP = "drop"  # left out
    FAIL = "fail"  # no dataset at all


class Code(StrEnum):
    """Everything that can be found."""

    UNREADABLE_JSON = "unreadable_json"
    IMAGE_OUTSIDE = "image_outside_folder"
    MISSING_IMAGE = "missing_image"
    UNREADABLE_IMAGE = "unreadable_image"
    TRUNCATED_IMAGE = "truncated_image"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_TWICE = "image_annotated_twice"
    NOT_ANNOTATED = "image_without_json"
    NOTHING_LEFT = "nothing_left"
    NO_SIZE = "no_size_in_json"
    WRONG_SIZE = "wrong_size_in_json"
    EXIF_ORIENTATION = "exif_orientation"
    EMPTY_LABEL = "empty_label"
    LABEL_NOT_VALID = "label_not_valid"
    UNSUPPORTED_SHAPE = "unsupported_shape"
    WRONG_POINTS = "wrong_number_of_points"
    ZERO_AREA = "zero_area"
    OUTSIDE = "outside_image"
    CLIPPED = "partly_outside_image"
    BAD_MASK = "bad_mask"


OUTCOMES: Final[dict[Code, Outcome]] = dict.fromkeys(Code, Outcome.DROP) | {
    Code.NO_SIZE: Outcome.FIX,
    Code.WRONG_SIZE: Outcome.FIX,
    Code.EXIF_ORIENTATION: Outcome.FIX,
    Code.CLIPPED: Outcome.FIX,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about an annotation that was fixed or left out.

    Attributes:
        code: what it is.
        file: the JSON (or, without one, the image), relative to the annotation folder.
        shape_index: which of its shapes, from 0; None for the whole file.
        message: what is wrong and what to do, for a reader.
    """

    code: Code
    file: str
    shape_index: int | None
    message: str

    @property
    def outcome(self) -> Outcome:
        return OUTCOMES[self.code]

    def to_json(self) -> dict[str, Any]:
        """As in findings.json."""
        return asdict(self) | {"code": str(self.code), "outcome": str(self.outcome)}


def count_findings(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each code was found, by code."""
    return dict(sorted(Counter(str(finding.code) for finding in findings).items()))
