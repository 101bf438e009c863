"""Instances kept in a file while a dataset is built: in memory, those of 100,000 images would be most of what a step takes."""

import marshal
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from sightline.annotations.regions import Region
from sightline.errors import SightlineError


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotation of the dataset."""

    label: str
    region: Region  # what it covers; run-length encoded when it is a crowd
    crowd: bool  # a region that training and evaluation ignore
    shape_index: int | None  # the document's shape that it comes from (the first of several parts); None from a plug-in


class KeptInstances(Sequence[Instance]):
    """An image's instances, read from the file whenever they are asked for; labels and number are known without that."""

    __slots__ = ("_file", "_length", "_start", "labels")

    def __init__(self, file: "InstanceFile", start: int, length: int, labels: tuple[str, ...]) -> None:
        self._file, self._start, self._length, self.labels = file, start, length, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._file.read(self._start, self._length))

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Instance]: ...
    def __getitem__(self, index: int | slice) -> Instance | Sequence[Instance]:
        return tuple(self)[index]


class InstanceFile:
    """The file, which nobody else reads; close it, or leave it with `with`."""

    def __init__(self, path: Path) -> None:
        self._path, self._end = path, 0
        self._file = path.open("xb+", buffering=0)
        self._labels: dict[tuple[str, ...], tuple[str, ...]] = {}  # most images have the same few

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keep(self, instances: Sequence[Instance]) -> KeptInstances:
        """Write an image's instances; those that are kept already stay where they are."""
        if isinstance(instances, KeptInstances):
            return instances
        data, start = marshal.dumps([_plain(one) for one in instances]), self._end
        try:
            while self._end < start + len(data):
                self._end += os.pwrite(self._file.fileno(), data[self._end - start :], self._end)
        except OSError as error:
            raise SightlineError(
                f"{self._path} cannot be written: {error.strerror}. Make room there, then run the same again."
            ) from error
        labels = tuple(one.label for one in instances)
        return KeptInstances(self, start, len(data), self._labels.setdefault(labels, labels))

    def read(self, start: int, length: int) -> tuple[Instance, ...]:
        """Those that `keep` wrote there."""
        data = os.pread(self._file.fileno(), length, start)
        return tuple(_instance(*plain) for plain in marshal.loads(data))  # noqa: S302  # our own, of this process


def _plain(one: Instance) -> tuple[Any, ...]:
    region = one.region
    outlines = [(outline.dtype.str, outline.tobytes()) for outline in region.outlines]
    box, area = tuple(map(_number, region.box)), _number(region.area)
    return str(one.label), bool(one.crowd), one.shape_index, box, area, outlines, region.rle


def _number(value: Any) -> int | float:
    """As Python has it: marshal would write one of numpy's as bytes."""
    return value if type(value) in (int, float) else value.item()


def _instance(
    label: str, crowd: bool, shape_index: int | None, box: Any, area: float, outlines: Any, rle: Any
) -> Instance:
    arrays = tuple(np.frombuffer(data, dtype).reshape(-1, 2) for dtype, data in outlines)
    return Instance(label, Region(box, area, arrays, rle), crowd, shape_index)
