"""What a pickle may hold here: descriptions of tensors and plain containers, built from what its instructions say."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

DIMENSIONS = 16
LARGEST_KEY = 1 << 32
LARGEST_NUMBER = 1 << 48


class NotPlainError(Exception):
    """A pickle that is damaged, or does what no checkpoint does."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """Where an object of a class or the result of a function would be."""

    name: str


@dataclass(frozen=True, slots=True)
class Named:
    """A class or function that a pickle names; never imported."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """Numbers of one type that lie outside the pickle."""

    key: str
    kind: str  # FloatStorage
    count: int  # numbers in the storage
    start: int = 0  # of a view, in numbers


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor as a pickle describes it; its numbers have not been looked at."""

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    kept: dict[Any, Any] = {}
    for key, value in items.items() if type(items) is dict else items:
        put(kept, key, value)
    return kept


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> TensorRecord | StandIn:
    if len(more) > 2 and more[2]:
        return StandIn("torch.Tensor, conjugate or negative")
    if type(storage) is not StorageRecord:
        raise NotPlainError("it has a tensor without numbers")
    whole = len(shape) == len(strides) <= DIMENSIONS
    if not whole or any(
        type(number) is not int or not 0 <= number < LARGEST_NUMBER for number in (offset, *shape, *strides)
    ):
        raise NotPlainError("it has a tensor of an impossible shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # A tensor that repeats its numbers could ask for any amount of memory when it is copied.
    if math.prod(shape) > storage.count or (math.prod(shape) and last >= storage.count):
        raise NotPlainError("it has a tensor larger than its numbers")
    return TensorRecord(storage, offset, tuple(shape), tuple(strides))


def _first(value: Any, *_: Any) -> Any:
    return value


_TORCH = "torch._utils._rebuild_"
BUILDERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "collections.OrderedDict": _ordered_dict,
        "collections.Counter": _ordered_dict,
        "collections.defaultdict": lambda _factory=None, items=(): _ordered_dict(items),
        "collections.deque": lambda items=(), _most=None: list(items) if type(items) is list else [],
        "builtins.list": lambda items=(): list(items) if type(items) in (list, tuple) else [],
        "builtins.set": lambda items=(): list(items) if type(items) in (list, tuple) else [],
        "torch.Size": lambda sizes=(): tuple(sizes) if type(sizes) in (list, tuple) else (),
        f"{_TORCH}tensor": _tensor,
        f"{_TORCH}tensor_v2": _tensor,
        f"{_TORCH}parameter": _first,
        f"{_TORCH}parameter_with_state": _first,
        f"{_TORCH}device_tensor_from_cpu_tensor": _first,
    }
)


def put(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Set an item; one whose key would be costly to hash is left out."""
    if type(key) in (str, bytes, bool) or key is None or (type(key) is int and 0 <= key < LARGEST_KEY):
        target[key] = value


def storage(kind: str, key: str, count: int, view: Any) -> StorageRecord:
    """A storage, or the view of one: key, first number, numbers."""
    if count < 0:
        raise NotPlainError("it has a storage of an impossible size")
    match view:
        case None:
            return StorageRecord(key, kind, count)
        case (_, int() as start, int() as size) if 0 <= start <= start + size <= count:
            return StorageRecord(key, kind, size, start)
    raise NotPlainError("it has a view of an impossible size")
