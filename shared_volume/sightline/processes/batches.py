"""Many things, some at a time, so that memory holds no more of them."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in their order, `size` together; the last are fewer. No more are taken than are asked for."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch
