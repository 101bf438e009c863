"""Which rows of a head's tensor belong to which class, so that those of classes with the same names can be kept."""

from collections.abc import Mapping, Sequence

AGNOSTIC = 4  # rows of a box regression that all classes share
ANCHORS = 12  # more for each place in the image no head has
NOT_LAST = ("cls_fcs", "rpn_cls")  # a layer before the last one, and one that only tells objects from background
BY_CLASS = ("conv_logits", "label_embedding", "class_embed")

Rows = tuple[tuple[int, ...], tuple[int, ...]]  # of the model, and of the file, in pairs


def depends_on_classes(name: str) -> bool:
    """Whether a tensor of this name has rows for each class, as mmdet's heads are called."""
    module = _module(name)
    return module not in NOT_LAST and ("cls" in module or module == "fc_reg" or module in BY_CLASS)


def rows_of_same_classes(
    name: str, ours: int, theirs: int, classes: Sequence[str], their_classes: Sequence[str]
) -> Rows | None:
    """The rows of classes with the same names, of `ours` and `theirs` rows; empty where no class has a name in common.

    A background row, which mmdet has last, goes along. None: the rows are not those of these numbers of classes.
    """
    pairs = _same(classes, their_classes)
    if _module(name) == "fc_reg":
        if (ours, theirs) != (AGNOSTIC * len(classes), AGNOSTIC * len(their_classes)):
            return None
        steps = range(AGNOSTIC)
        return _joined([(our * AGNOSTIC + step, their * AGNOSTIC + step) for our, their in pairs for step in steps])
    for background in (0, 1):
        width, their_width = len(classes) + background, len(their_classes) + background
        anchors = ours // width
        fits = (ours, theirs) == (anchors * width, anchors * their_width)
        if not fits or anchors > (1 if _module(name).startswith("fc") else ANCHORS):
            continue
        known = [*pairs, *([(len(classes), len(their_classes))] if background and pairs else [])]
        # Of each anchor the rows of all classes follow each other.
        return _joined([(a * width + our, a * their_width + their) for a in range(anchors) for our, their in known])
    return None


def _joined(pairs: Sequence[tuple[int, int]]) -> Rows:
    return tuple(our for our, _ in pairs), tuple(their for _, their in pairs)


def _same(classes: Sequence[str], their_classes: Sequence[str]) -> list[tuple[int, int]]:
    labels: Mapping[str, int] = {plain_name(name): label for label, name in reversed(list(enumerate(their_classes)))}
    return [(label, labels[plain_name(name)]) for label, name in enumerate(classes) if plain_name(name) in labels]


def new_classes(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of the names that are none of the others, compared as rows of classes are."""
    known = set(map(plain_name, others))
    return [name for name in names if plain_name(name) not in known]


def plain_name(name: str) -> str:
    """A class's name as it is compared: without regard to case, underscores and hyphens."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _module(name: str) -> str:
    """`fc_cls` of `roi_head.bbox_head.fc_cls.weight`, `rtm_cls` of `bbox_head.rtm_cls.0.bias`."""
    parts = [part for part in name.split(".")[:-1] if not part.isdigit()]
    return parts[-1] if parts else ""
