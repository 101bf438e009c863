"""What `torch.save` wrote, as descriptions first: which tensors there are, and where in the file each one's numbers lie.

Both of its forms: a zip file (since 1.6) and pickles with the numbers behind them (before). The numbers stay in the file until
they are asked for, and then they are mapped, not copied: a file of 200 MB needs memory for what is used of it, once.
"""

import io
import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import clause
from sightline.models.weights.base import WeightsError, shown
from sightline.models.weights.records import NotPlainError, TensorRecord
from sightline.models.weights.unpickle import BYTES, Unpickled, unpickle

if TYPE_CHECKING:
    import torch

AGAIN = "Fetch the file again, and give its sha256 so that a damaged one is noticed."
LOCAL_HEADER = struct.Struct("<4s22xHH")  # a zip entry's: signature, and the lengths of its name and its extra field
COUNT = struct.Struct("<q")
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch's older form
KINDS = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that `torch.save` wrote."""

    path: Path
    contents: Unpickled
    places: Mapping[str, tuple[int, int]]  # storage key -> first byte in the file, bytes


def read_zip(path: Path) -> Stored:
    """What a zip file of `torch.save` describes; a WeightsError for one that is damaged, compressed, or holds a program."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = {entry.filename: entry for entry in archive.infolist()}
            root = _root(path, entries)
            pickled = entries[f"{root}data.pkl"]
            if pickled.file_size > BYTES:
                raise WeightsError(
                    f"{path} holds {pickled.file_size:,} bytes beside its tensors, far more than weights need."
                )
            _refuse_packed(path, entries)
            contents = unpickle(io.BytesIO(archive.read(pickled)))
            if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
                raise WeightsError(
                    f"{path} was written by a machine with big-endian numbers. Convert it to .safetensors there."
                )
            prefix = f"{root}data/"
            places = {
                name.removeprefix(prefix): _place(file, entry)
                for name, entry in entries.items()
                if name.startswith(prefix)
            }
    except NotPlainError as error:
        raise WeightsError(f"{path} cannot be read as weights: {clause(error)}. {AGAIN}") from error
    except (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, ValueError) as error:
        raise WeightsError(
            f"{path} is not whole: it starts as a file of torch.save but is damaged or cut off. {AGAIN}"
        ) from error
    return Stored(path, contents, places)


def _root(path: Path, entries: Mapping[str, zipfile.ZipInfo]) -> str:
    """The folder in the archive, `archive/`."""
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("data.pkl") and name.count("/") <= 1]
    if not roots:
        some = ", ".join(shown(name) for name in sorted(entries)[:3])
        raise WeightsError(
            f"{path} is a zip file without weights (it holds {some or 'nothing'}). Give the file that is in it."
        )
    if f"{roots[0]}constants.pkl" in entries:
        raise WeightsError(
            f"{path} is a TorchScript program, which is code. Save its weights where it is trusted: "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW)."
        )
    return roots[0]


def _refuse_packed(path: Path, entries: Mapping[str, zipfile.ZipInfo]) -> None:
    packed = [entry for entry in entries.values() if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1]
    if packed:
        raise WeightsError(
            f"{path} is compressed or encrypted, which torch.save never does ({shown(packed[0].filename)}). "
            "Unpack it, or save the weights again."
        )


def _place(file: io.BufferedReader, entry: zipfile.ZipInfo) -> tuple[int, int]:
    file.seek(entry.header_offset)
    signature, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile
    return entry.header_offset + LOCAL_HEADER.size + name + extra, entry.file_size


def read_pickles(path: Path) -> Stored:
    """What a file of torch's older form describes; a WeightsError for one that is damaged, or another kind of pickle."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
        try:
            if unpickle(source).value != MAGIC or unpickle(source).value != PROTOCOL:
                raise WeightsError(
                    f"{path} is a pickle that torch.save did not write, so its weights are in a form that we do not know. "
                    "Save its tensors as .safetensors, or by torch.save(STATE_DICT, FILE)."
                )
            unpickle(source)  # sizes of types on the machine that wrote it
            contents = unpickle(source)
            keys = unpickle(source).value
            return Stored(path, contents, _places_after(source, keys, contents.kinds))
        except NotPlainError as error:
            raise WeightsError(f"{path} cannot be read as weights: {clause(error)}. {AGAIN}") from error


def _places_after(source: mmap.mmap, keys: Any, kinds: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Where each storage lies behind the pickles: a count, then so many numbers, in the order of `keys`."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise NotPlainError("its list of storages is damaged")
    places = {}
    for key in keys:
        if kinds.get(key) not in KINDS:
            raise NotPlainError(f"it holds numbers of a kind that we do not know ({shown(kinds.get(key))})")
        header = source.read(COUNT.size)
        if len(header) < COUNT.size:
            raise NotPlainError("it ends early")
        start, size = source.tell(), COUNT.unpack(header)[0] * itemsize(kinds[key])
        if not 0 <= size <= len(source) - start:
            raise NotPlainError("it ends early")
        places[key] = (start, size)
        source.seek(start + size)
    return places


def itemsize(kind: str) -> int:
    """Bytes of one number of a storage of torch."""
    return dtype_of(kind).itemsize


def dtype_of(kind: str) -> "torch.dtype":
    import torch

    dtype: torch.dtype = getattr(torch, KINDS[kind])
    return dtype


class Mapped:
    """Makes tensors of what a file describes. They are views of the file, which has to stay as it is while they are used."""

    def __init__(self, stored: Stored) -> None:
        import torch

        self.stored = stored
        self._length = stored.path.stat().st_size
        # Private: who changes a tensor changes memory, never the file.
        self._file = torch.UntypedStorage.from_file(str(stored.path), shared=False, nbytes=self._length)

    def make(self, record: TensorRecord) -> "torch.Tensor":
        """The tensor of a record; a WeightsError if the file does not hold all of it."""
        import torch

        kind = record.storage.kind
        if kind not in KINDS:
            raise WeightsError(f"{self.stored.path} holds numbers of a kind that we do not know ({shown(kind)}).")
        size = itemsize(kind)
        first, held = self.stored.places.get(record.storage.key, (0, -1))
        start, bytes_wanted = first + record.storage.start * size, record.storage.count * size
        if record.storage.start * size + bytes_wanted > held or start + bytes_wanted > self._length:
            raise WeightsError(f"{self.stored.path} is not whole: a tensor's numbers are missing. {AGAIN}")
        storage = self._file[start : start + bytes_wanted]
        if start % size:  # the older form packs its numbers closely
            storage = storage.clone()
        try:
            return torch.empty(0, dtype=dtype_of(kind)).set_(storage, record.offset, record.shape, record.strides)
        except (RuntimeError, OverflowError) as error:
            raise WeightsError(f"{self.stored.path} holds a tensor of an impossible shape. {AGAIN}") from error
