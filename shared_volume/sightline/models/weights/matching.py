"""Which of a file's tensors fit a model: names of other tools, whole detectors with other classes, and what is left out, and why."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sightline.errors import counted, some_of
from sightline.models.weights.base import WeightsError, shown
from sightline.models.weights.heads import Rows, depends_on_classes, rows_of_same_classes
from sightline.models.weights.names import DIALECTS, Renamed, Tensors

if TYPE_CHECKING:
    import torch

TABLES = r"(relative_position_index|attn_mask|relative_coords_table)$"  # which a model computes from its own sizes
COMPUTED = re.compile(rf"num_batches_tracked$|{TABLES}")  # nobody misses them
STATISTICS = re.compile(r"(running_mean|running_var)$")
ENOUGH = 0.5  # of the parameters
BACKBONE = "backbone"
NAMED = 3  # names in a message
FRONT_PARTS = 3  # of a name in front of what other tools call a tensor


@dataclass(frozen=True, slots=True)
class Taken:
    """A tensor of the model that gets a value from the file."""

    name: str
    source: str  # its name in the file
    tensor: "torch.Tensor"  # in the model's shape, or with the rows that `rows` names
    how: str = ""  # what was changed of it
    rows: Rows | None = None  # only these: of the model, and of the tensor

    @property
    def count(self) -> int:
        """Numbers of the model that it sets."""
        return self.tensor.numel() if self.rows is None else self.tensor[0].numel() * len(self.rows[0])


@dataclass(frozen=True, slots=True)
class Left:
    """A tensor of the file that is not used."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Match:
    """What a file gives a model."""

    taken: tuple[Taken, ...]
    left: tuple[Left, ...]
    missing: tuple[str, ...]  # tensors of the model that keep the values they have
    counts: Mapping[str, tuple[int, int]]  # first two parts of a module's name -> parameters matched, parameters it has

    @property
    def reshaped(self) -> tuple[Taken, ...]:
        """Those whose numbers were reordered, or of which only some rows are used."""
        return tuple(taken for taken in self.taken if taken.how)

    @property
    def share(self) -> float:
        """Of the model's parameters, those that get a value, 0 to 1."""
        return _share(self.counts.values())

    @property
    def part(self) -> str:
        """`backbone` for weights that are only for that; otherwise the whole model, an empty text."""
        given = {name.partition(".")[0] for name, (matched, _) in self.counts.items() if matched}
        return BACKBONE if given == {BACKBONE} else ""

    @property
    def share_of_part(self) -> float:
        """The share of `part`, which has to be half: a backbone's weights are often less than half of a detector's."""
        return _share(
            counts for name, counts in self.counts.items() if name.partition(".")[0] == self.part or not self.part
        )

    def apply(self, model: "torch.nn.Module") -> None:
        """Copy the values into a model that has the names and shapes of the one that was matched."""
        import torch

        state = model.state_dict(keep_vars=True)
        with torch.no_grad():
            for taken in self.taken:
                target = state[taken.name]
                if taken.rows is None:
                    target.copy_(taken.tensor)
                else:
                    ours, theirs = (list(rows) for rows in taken.rows)
                    target[ours] = taken.tensor[theirs].to(target)

    def summary(self) -> list[str]:
        """Lines for a log or a report: the shares, each module's, what was reshaped, what was left out."""
        lines = [f"{counted(len(self.taken), 'tensor')} matched: {_percent(self.share)} of the model's parameters"]
        if self.part:
            lines[0] += f", {_percent(self.share_of_part)} of its {self.part}"
        for name, (matched, size) in self.counts.items():
            lines.append(f"{name}: {matched:,} of {size:,} parameters")
        lines += [f"reshaped: {taken.name}, {taken.how}" for taken in self.reshaped]
        reasons: dict[str, list[Left]] = {}
        for entry in self.left:
            reasons.setdefault(entry.reason.partition(" (")[0], []).append(entry)
        for reason, entries in reasons.items():
            told = entries[0].reason if len(entries) == 1 else reason
            lines.append(f"left out: {_some([entry.source for entry in entries])}: {told}")
        if self.missing:
            lines.append(f"not in the file: {_some(self.missing)}")
        return lines


def match(
    model: "torch.nn.Module | Tensors",
    tensors: Tensors,
    classes: Sequence[str] | None = None,
    their_classes: Sequence[str] | None = None,
    few_allowed: bool = False,
) -> Match:
    """Find out which tensors of a file fit a model, or its state dict, by name and shape; changes neither.

    Args:
        tensors: a file's, as `read_weights` gives them.
        classes: of the model, by label; None when its heads have none.
        their_classes: of the file, where it tells them. Rows of classes with the same names are kept, the others left out.
        few_allowed: take what fits, however little it is.

    Raises:
        WeightsError: less than half of the model's parameters (of its backbone's, where the weights are only for that) would
            get a value.
    """
    import torch

    state = model.state_dict() if isinstance(model, torch.nn.Module) else model
    renamed = _best_names(state, tensors)
    taken: list[Taken] = []
    left: list[Left] = []
    for name, given in renamed.items():
        found = _fitted(name, given, state, (classes, their_classes))
        if isinstance(found, Taken):
            taken.append(found)
        elif not COMPUTED.search(given.source):
            left.append(found)
    seen = {given.source for given in renamed.values()}
    left += [Left(name, "not in the model") for name in tensors if name not in seen and not COMPUTED.search(name)]
    names = {entry.name for entry in taken}
    missing = tuple(name for name in state if name not in names and not COMPUTED.search(name))
    result = Match(tuple(taken), tuple(left), missing, _counts(state, taken))
    if result.share_of_part < ENOUGH and not few_allowed:
        raise _too_few(result)
    return result


def _too_few(result: Match) -> WeightsError:
    unused = [entry.source for entry in result.left]
    of_what = f"the model's {result.part}" if result.part else "the model"
    return WeightsError(
        f"The weights fit only {_percent(result.share_of_part)} of {of_what}: it wants "
        f"{_some(result.missing) or 'nothing more'}, and not used of the file are {_some(unused) or 'none'}. They are of "
        "another architecture: take weights that were trained with this config, or allow few of them to fit: --pretrained-fit any."
    )


def _some(names: Sequence[str]) -> str:
    return some_of([shown(name) for name in names], NAMED)


def _best_names(state: Tensors, tensors: Tensors) -> dict[str, Renamed]:
    """The names under which the most numbers fit."""
    ends = _by_ending(state)
    best: dict[str, Renamed] = {}
    most = -1
    for front in _fronts(tensors):
        bare = {name.removeprefix(front): tensor for name, tensor in tensors.items() if name.startswith(front)}
        for dialect in DIALECTS:
            known = dialect(bare)
            for prefix in _prefixes(known or {}, ends):
                named = {
                    prefix + name: Renamed(front + to.source, to.tensor, to.how) for name, to in (known or {}).items()
                }
                fitting = sum(
                    to.tensor.numel()
                    for name, to in named.items()
                    if name in state and state[name].shape == to.tensor.shape
                )
                if fitting > most:
                    best, most = named, fitting
    return best


def _fronts(tensors: Tensors) -> list[str]:
    """What stands in front of at least a tenth of the names, which another tool may have put there; nothing first."""
    counts = Counter(
        "".join(f"{part}." for part in parts[:length])
        for parts in (name.split(".") for name in tensors)
        for length in range(1, min(len(parts), FRONT_PARTS + 1))
    )
    return ["", *(front for front, number in counts.items() if number * 10 >= len(tensors))]


def _by_ending(state: Tensors) -> dict[str, set[str]]:
    """Each ending of a name -> what stands in front of it."""
    ends: dict[str, set[str]] = {}
    for name in state:
        parts = name.split(".")
        for length in range(min(len(parts), FRONT_PARTS + 1)):
            front = "".join(f"{part}." for part in parts[:length])
            ends.setdefault(name.removeprefix(front), set()).add(front)
    return ends


def _prefixes(known: Mapping[str, Renamed], ends: Mapping[str, set[str]]) -> Iterator[str]:
    """What in the model stands in front of names, the most frequent first."""
    counts = Counter(front for name in known for front in ends.get(name, ()))
    return (front for front, _ in counts.most_common(FRONT_PARTS))


def _fitted(
    name: str, given: Renamed, state: Tensors, classes: tuple[Sequence[str] | None, Sequence[str] | None]
) -> Taken | Left:
    target = state.get(name)
    if target is None or re.search(TABLES, name):
        return Left(given.source, "not in the model")
    ours, theirs = classes
    same_tail = target.shape[1:] == given.tensor.shape[1:] and target.dim() == given.tensor.dim() > 0
    if ours and theirs and list(ours) != list(theirs) and same_tail and depends_on_classes(name):
        rows = rows_of_same_classes(name, len(target), len(given.tensor), ours, theirs)
        if rows == ((), ()):
            return Left(given.source, "none of its classes is one of the model's")
        if rows is not None:
            how = f"{len(rows[0])} of {counted(len(target), 'row')}, those of classes with the same names"
            return Taken(name, given.source, given.tensor, how, rows)
    if target.shape != given.tensor.shape:
        return Left(given.source, f"of another shape ({_shape(given.tensor)}, not {_shape(target)})")
    return Taken(name, given.source, given.tensor, given.how)


def _shape(tensor: "torch.Tensor") -> str:
    return " x ".join(str(size) for size in tensor.shape) or "one number"


def _counts(state: Tensors, taken: Sequence[Taken]) -> dict[str, tuple[int, int]]:
    set_by = {entry.name: entry.count for entry in taken}
    counts: dict[str, tuple[int, int]] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or STATISTICS.search(name):
            continue
        module = ".".join(name.split(".")[:-1][:2]) or name
        matched, size = counts.get(module, (0, 0))
        counts[module] = (matched + set_by.get(name, 0), size + tensor.numel())
    return counts


def _share(counts: Iterable[tuple[int, int]]) -> float:
    pairs = list(counts)
    return sum(matched for matched, _ in pairs) / max(sum(size for _, size in pairs), 1)


def _percent(share: float) -> str:
    """Rounded down, so that 100% are all."""
    return f"{math.floor(share * 100)}%"
