"""What can be wrong with annotations, what may become of it, and what a category's policy chooses."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NoReturn, Self

from sightline.errors import SightlineError, counted, nearest

MOST_SHOWN: Final = 10  # failing findings in one message
FEW_SHOWN: Final = 3  # findings of one code in a summary
_ADVICE: Final = (
    "Nothing was written. Correct these files, or choose another outcome under `policy` in the category's recipe."
)


class PolicyError(SightlineError, ValueError):
    """A policy that cannot be followed."""


class FindingsError(SightlineError):
    """Findings that the policy does not let pass; `choices` are outcomes that would let them, by code."""

    def __init__(self, message: str, choices: "Mapping[Code, Outcome] | None" = None):
        super().__init__(message)
        self.choices = choices or {}


class Outcome(StrEnum):
    """What happened because of a finding."""

    FIX = "fix"  # used, after a correction where one is needed
    DROP = "drop"  # left out: the shape; for a finding about the whole file, the image
    FAIL = "fail"  # nothing is published


class Code(StrEnum):
    """Everything that can be found."""

    BAD_NAME = "unusable_file_name"
    NAMES_CLASH = "names_differ_by_case_only"
    UNREADABLE_SOURCE = "unreadable_source"
    BROKEN_ANNOTATION = "broken_annotation"
    NOT_IMPORTED = "not_imported"
    TURNED_SHAPES = "shapes_turned_upright"
    BOX_USED = "box_instead_of_outline"
    ALL_CROWD = "everything_is_crowd"
    OTHER_ENCODING = "other_encoding"
    UNREADABLE_JSON = "unreadable_json"
    IMAGE_OUTSIDE = "image_outside_folder"
    MISSING_IMAGE = "missing_image"
    FOUND_ELSEWHERE = "image_found_elsewhere"
    NAMED_OTHERWISE = "another_image_named"
    EMBEDDED_ONLY = "embedded_image_only"
    UNREADABLE_IMAGE = "unreadable_image"
    TRUNCATED_IMAGE = "truncated_image"
    IMAGE_TOO_LARGE = "image_too_large"
    WRONG_EXTENSION = "wrong_extension"
    IMAGE_TWICE = "image_annotated_twice"
    COPIED = "identical_images"
    NOT_ANNOTATED = "image_without_json"
    NOTHING_LEFT = "nothing_left"
    NO_SIZE = "no_size_in_json"
    WRONG_SIZE = "wrong_size_in_json"
    RESIZED = "image_resized"
    SWAPPED_SIZE = "swapped_size_in_json"
    EXIF_ORIENTATION = "exif_orientation"
    DEEP_PIXELS = "more_than_8_bits"
    MALFORMED_SHAPE = "malformed_shape"
    NON_FINITE = "non_finite_coordinates"
    EMPTY_LABEL = "empty_label"
    LABEL_NOT_VALID = "label_not_valid"
    LABEL_TYPO = "label_typo"
    RARE_LABEL = "rare_label"
    UNSUPPORTED_SHAPE = "unsupported_shape"
    UNKNOWN_SHAPE = "unknown_shape_type"
    WRONG_POINTS = "wrong_number_of_points"
    REVERSED_RECTANGLE = "reversed_rectangle"
    ZERO_AREA = "zero_area"
    SELF_CROSSING = "self_crossing"
    OUTSIDE = "outside_image"
    CLIPPED = "partly_outside_image"
    BAD_MASK = "bad_mask"
    DUPLICATE_SHAPE = "duplicate_shape"
    GROUP_APART = "group_lies_apart"
    CONFLICTING_LABELS = "conflicting_labels"
    SIMILAR_TO_SEVERAL = "similar_to_several_splits"
    LISTED_APART = "similar_images_listed_apart"
    LISTED_UNKNOWN = "listed_image_unknown"
    NO_CLASS = "image_without_class"
    SEVERAL_CLASSES = "image_of_several_classes"
    ONLY_OTHER_LABELS = "only_other_labels"
    LEFT_OUT_BY_PLUGIN = "left_out_by_plugin"
    AREA_BELOW = "area_below_minimum"
    SIDE_BELOW = "side_below_minimum"
    ASPECT_ABOVE = "aspect_above_maximum"
    NO_OBJECT_LEFT = "no_object_left"
    IMAGE_BELOW = "image_below_minimum"


# What can be corrected, and how, when the policy says `fix`.
FIXES: Final[dict[Code, str]] = {
    Code.TURNED_SHAPES: "shapes drawn on the image as stored are turned with it",
    Code.BOX_USED: "its box is used",
    Code.ALL_CROWD: "crowds are read as objects",
    Code.OTHER_ENCODING: "read in the encoding that it is likely in",
    Code.FOUND_ELSEWHERE: "the only image that fits is used",
    Code.NAMED_OTHERWISE: "the image of the file's own name is used",
    Code.IMAGE_OUTSIDE: "an image of that name beside the JSON is used instead",
    Code.EMBEDDED_ONLY: "the embedded image is written out as a file",
    Code.WRONG_EXTENSION: "the image is read by its content",
    Code.COPIED: "both are kept, as one group when splits are drawn",
    Code.NOT_ANNOTATED: "kept as a background, with an empty annotation",
    Code.NOTHING_LEFT: "kept as a background",
    Code.NO_SIZE: "the image's own size is used",
    Code.WRONG_SIZE: "the image's own size is used",
    Code.RESIZED: "its shapes are scaled with it",
    Code.SWAPPED_SIZE: "the image's own size is used",
    Code.EXIF_ORIENTATION: "the image is turned upright",
    Code.DEEP_PIXELS: "brought to 8 bits",
    Code.UNKNOWN_SHAPE: "it is taken for the area that its points enclose",
    Code.LABEL_TYPO: "renamed to the known label",
    Code.RARE_LABEL: "kept as a class of its own",
    Code.REVERSED_RECTANGLE: "the corners are put in order",
    Code.SELF_CROSSING: "taken apart into parts that do not cross",
    Code.CLIPPED: "cut at the image's border",
    Code.DUPLICATE_SHAPE: "the second is left out",
    Code.CONFLICTING_LABELS: "both are kept",
    Code.GROUP_APART: "they are one object",
    Code.SIMILAR_TO_SEVERAL: "it goes where the image published first is",
    Code.LISTED_APART: "each stays where the split file lists it",
}

ALLOWED: Final[dict[Code, frozenset[Outcome]]] = {
    code: frozenset(Outcome) - (frozenset() if code in FIXES else {Outcome.FIX}) for code in Code
} | dict.fromkeys(
    (Code.SIMILAR_TO_SEVERAL, Code.LISTED_APART, Code.GROUP_APART), frozenset({Outcome.FIX, Outcome.FAIL})
)

# Corrections that only the user can ask for.
_ON_REQUEST: Final = {Code.IMAGE_OUTSIDE, Code.NOT_ANNOTATED, Code.NOTHING_LEFT, Code.LABEL_TYPO, Code.DUPLICATE_SHAPE}
DEFAULTS: Final[dict[Code, Outcome]] = {
    code: Outcome.FIX if code in FIXES and code not in _ON_REQUEST else Outcome.DROP for code in Code
}

# While publishing, the files are still at hand and can be corrected: months of labelling must not vanish into a count.
PUBLISHING_DEFAULTS: Final[dict[Code, Outcome]] = DEFAULTS | dict.fromkeys(
    (
        Code.BAD_NAME,
        Code.NAMES_CLASH,
        Code.UNREADABLE_SOURCE,
        Code.UNREADABLE_JSON,
        Code.IMAGE_OUTSIDE,
        Code.MISSING_IMAGE,
        Code.UNREADABLE_IMAGE,
        Code.TRUNCATED_IMAGE,
        Code.IMAGE_TOO_LARGE,
        Code.IMAGE_TWICE,
        Code.WRONG_SIZE,
        Code.ALL_CROWD,
    ),
    Outcome.FAIL,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about an annotation that was fixed or left out, or that lets nothing be made at all."""

    code: Code
    file: str  # the JSON (or, without one, the image), relative to the annotation folder
    shape_index: int | None  # which of its shapes, from 0; None for the whole file
    message: str  # what is wrong and what to do, for a reader
    outcome: Outcome

    def to_json(self) -> dict[str, Any]:
        """As in findings.json."""
        return asdict(self) | {"code": str(self.code), "outcome": str(self.outcome)}


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of each code: what the recipe or the command line chose, else the default."""

    chosen: Mapping[Code, Outcome] = field(default_factory=dict)
    defaults: Mapping[Code, Outcome] = field(default_factory=lambda: DEFAULTS)

    @classmethod
    def of(cls, chosen: Mapping[str, str]) -> Self:
        """The policy of `{code: outcome}` as a recipe writes it; PolicyError unless they exist and go together."""
        outcomes = {}
        for code, outcome in chosen.items():
            if code not in list(Code):
                raise PolicyError(f"policy: there is no finding {code!r}.{nearest(str(code), map(str, Code))}")
            allowed = [one for one in Outcome if one in ALLOWED[Code(code)]]
            if outcome not in allowed:
                wrong = f"cannot be {outcome!r}" if outcome in list(Outcome) else f"{outcome!r} is not an outcome"
                raise PolicyError(f"policy: {code}: {wrong}. Choose one of {', '.join(allowed)}.")
            outcomes[Code(code)] = Outcome(outcome)
        return cls(outcomes)

    def publishing(self) -> Self:
        """The same choices over the defaults of publishing."""
        return replace(self, defaults=PUBLISHING_DEFAULTS)

    def outcome(self, code: Code) -> Outcome:
        """What becomes of a code."""
        return self.chosen.get(code) or self.defaults[code]

    def finding(self, code: Code, file: str, shape_index: int | None, message: str, fixable: bool = True) -> Finding:
        """A finding with the outcome that the policy gives it; what is not `fixable` is dropped instead of fixed."""
        outcome = self.outcome(code)
        return Finding(code, file, shape_index, message, outcome if fixable or outcome != Outcome.FIX else Outcome.DROP)


class LeftOut(Exception):  # noqa: N818  # control flow of those who take notes, not an error
    """What is being looked at is not used; a finding says why."""


@dataclass(slots=True)
class Notes:
    """The findings on one file, as the policy decides them; `index` is that of the shape being looked at, if any."""

    policy: Policy
    file: str
    findings: list[Finding] = field(default_factory=list)
    index: int | None = None

    def mend(self, code: Code, message: str) -> None:
        """Note what can be corrected; raises LeftOut unless the policy wants it corrected."""
        self.findings.append(self.policy.finding(code, self.file, self.index, message))
        if self.findings[-1].outcome is not Outcome.FIX:
            raise LeftOut

    def leave_out(self, code: Code, message: str) -> NoReturn:
        """Note what cannot be corrected, whatever the policy says, and raise LeftOut."""
        self.findings.append(self.policy.finding(code, self.file, self.index, message, fixable=False))
        raise LeftOut


def require_none_fails(findings: Iterable[Finding], advice: str = _ADVICE) -> None:
    """Let nothing pass that the policy makes fail; `advice` says what to do about it.

    FindingsError lists the first ten such findings, counts the others, and says what else each code may become.
    """
    failing = [finding for finding in findings if finding.outcome is Outcome.FAIL]
    if not failing:
        return
    counts = count_findings(failing)
    codes = ", ".join(f"{code} ({count})" for code, count in counts.items())
    what = f"{counted(len(failing), 'finding')} {'stands' if len(failing) == 1 else 'stand'} in the way"
    choices = "\n".join(f"  {code}: {_may_become(Code(code))}" for code in counts)
    lenient = {Code(code): _lenient(Code(code)) for code in counts}
    raise FindingsError(f"{what}: {codes}\n{list_findings(failing)}\n{advice} Outcomes:\n{choices}", lenient)


def _lenient(code: Code) -> Outcome:
    """An outcome that lets a finding pass: a correction where there is one that leaves no box beside its object."""
    return Outcome.FIX if Outcome.FIX in ALLOWED[code] and code is not Code.WRONG_SIZE else Outcome.DROP


def _may_become(code: Code) -> str:
    """The outcomes of a code that let it pass, each with what it means."""
    means = {
        Outcome.FIX: FIXES.get(code, ""),
        Outcome.DROP: "crowds stay crowds" if code is Code.ALL_CROWD else "left out",
    }
    return ", ".join(f"{outcome} ({means[outcome]})" for outcome in means if outcome in ALLOWED[code])


def list_findings(findings: Sequence[Finding]) -> str:
    """The first ten findings, one a line, and how many more there are."""
    lines = [f"  {one.file}{_shape_of(one)}: {one.message} ({one.code})" for one in findings[:MOST_SHOWN]]
    more = [f"  … and {len(findings) - MOST_SHOWN} more"] if len(findings) > MOST_SHOWN else []
    return "\n".join(lines + more)


def explain_findings(findings: Sequence[Finding]) -> str:
    """Why nothing of a folder can be used: how often each code was found, the first ten findings, and what to do."""
    counts = ", ".join(f"{count} x {code}" for code, count in count_findings(findings).items())
    return f"What was found ({counts}):\n{list_findings(findings)}\nCorrect these files, or export them again."


def summarize_findings(findings: Sequence[Finding]) -> str:
    """A line for each code and outcome with its count, and under it the first findings."""
    lines = []
    groups = Counter((finding.code, finding.outcome) for finding in findings)
    for (code, outcome), count in sorted(groups.items()):
        lines.append(f"{count} x {code}: {outcome}" + (f" ({FIXES[code]})" if outcome is Outcome.FIX else ""))
        own = [finding for finding in findings if (finding.code, finding.outcome) == (code, outcome)]
        lines += [f"  {finding.file}{_shape_of(finding)}: {finding.message}" for finding in own[:FEW_SHOWN]]
        if count > FEW_SHOWN:
            lines.append(f"  … and {count - FEW_SHOWN} more")
    return "\n".join(lines)


def _shape_of(finding: Finding) -> str:
    return "" if finding.shape_index is None else f", shape {finding.shape_index}"


def count_findings(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each code was found, by code."""
    return dict(sorted(Counter(str(finding.code) for finding in findings).items()))
