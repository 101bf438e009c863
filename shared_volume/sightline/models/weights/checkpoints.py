"""Trained weights from a file: `.safetensors`, or what `torch.save` wrote, of which no code ever runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sightline.errors import clause, counted
from sightline.models.weights.base import WeightsError, shown
from sightline.models.weights.records import StandIn, TensorRecord
from sightline.models.weights.stored import AGAIN, Mapped, read_pickles, read_zip

if TYPE_CHECKING:
    import torch

# Where the weights are, the best first. What mmengine saves with a moving average has the averaged weights as `state_dict`,
# and those of the last iteration as `ema_state_dict`; elsewhere the average has a name of its own.
KEYS = ("state_dict_ema", "model_ema", "params_ema", "state_dict", "model", "module", "ema", "params")
WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel, averaged models and torch.compile
VERSIONS = ("mmengine_version", "mmdet_version", "mmcv_version")
COUNTERS = ("epoch", "iter")
CLASSES = 100_000  # more are no classes
SAFETENSORS = b"\0\0{"  # from the seventh byte: the end of the header's length, and its first letter


@dataclass(frozen=True, slots=True)
class Weights:
    """A file's weights."""

    tensors: Mapping[str, "torch.Tensor"]  # on the CPU, by name without wrappers
    skipped: tuple[str, ...]  # what else the file holds, a line each
    facts: Mapping[
        str, Any
    ]  # of epoch, iter, classes and versions, those that the file tells; `key`: where the weights were


def read_weights(path: Path) -> Weights:
    """Read the weights of a file, told by its contents, not by its name.

    The tensors are views of the file: it has to stay as it is while they are used, and changing them does not change it.

    Raises:
        WeightsError: no such file, one that is cut off, none with weights, or one of a form that holds code.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith((b"PK\x03\x04", b"\x80")):
            return _read_stored(Mapped(read_zip(path) if head.startswith(b"PK") else read_pickles(path)))
        if head[6:9] == SAFETENSORS:
            return _read_safetensors(path)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror or clause(error)}). Name a file with weights."
        ) from error
    raise WeightsError(f"{path} holds no weights: {_what_it_is(head)}")


def _what_it_is(head: bytes) -> str:
    start = head.lstrip()[:64].lower()
    if not head:
        return f"it is empty. {AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "it only points to a file of Git LFS. Run git lfs pull where it came from, and give the file itself."
    if start.startswith((b"<", b'{"', b"{\n")):
        return (
            "it is a page or a message of a server. Check the address: a sign-in or an error may stand there instead."
        )
    if head[257:262] == b"ustar":
        return "it is a tar file. Unpack it and give the file with weights; torch's own tar form, before 0.1.10, is not read."
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")):
        return "it is compressed. Unpack it and give the file with weights."
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file, as Keras writes it. Give weights of PyTorch: .safetensors, .pth or .pt."
    return f"it is neither .safetensors nor a file of torch.save. {AGAIN}"


def _read_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path} is not whole, or no .safetensors: {clause(error)}. {AGAIN}") from error
    if not tensors:
        raise WeightsError(f"{path} holds no tensors. Give a file with weights.")
    tensors, skipped = _unwrapped(tensors)
    return Weights(MappingProxyType(tensors), tuple(skipped), MappingProxyType(_facts({"meta": said})))


def _read_stored(file: Mapped) -> Weights:
    contents = file.stored.contents
    found = _weights_in(contents.value)
    if found is None:
        raise _no_weights(file.stored.path, contents.value)
    where, key = found
    records = {name: value for name, value in where.items() if type(name) is str and type(value) is TensorRecord}
    tensors, skipped = _unwrapped({name: file.make(record) for name, record in records.items()})
    skipped += [f"{shown(name)}: {_kind(value)}" for name, value in where.items() if name not in records]
    if key is not None:
        top = key.partition(".")[0]
        skipped += [f"{shown(name)}: {_kind(value)}" for name, value in contents.value.items() if name != top]
    skipped += [f"{name}: {counted(number, 'object')}, not built" for name, number in sorted(contents.stood_in.items())]
    facts = {**_facts(contents.value), **({"key": key} if key else {})}
    return Weights(MappingProxyType(tensors), tuple(skipped), MappingProxyType(facts))


def _weights_in(value: Any, depth: int = 3) -> tuple[dict[Any, Any], str | None] | None:
    """The dict of a checkpoint that holds its weights, and the dotted key at which it is."""
    if type(value) is not dict or depth == 0:
        return None
    for key in KEYS:
        if (found := _weights_in(value.get(key), depth - 1)) is not None:
            inner, deeper = found
            return inner, key if deeper is None else f"{key}.{deeper}"
    return (value, None) if any(type(entry) is TensorRecord for entry in value.values()) else None


def _no_weights(path: Path, value: Any) -> WeightsError:
    entries = value if type(value) is dict else {"": value}
    whole = next((entry.name for key, entry in entries.items() if key in ("", *KEYS) and type(entry) is StandIn), None)
    if whole is not None:
        return WeightsError(
            f"{path} holds an object of {whole} instead of weights, and no code of a file is run here. "
            "Save its weights where it is trusted: torch.save(MODEL.state_dict(), NEW)."
        )
    there = ", ".join(shown(key) for key in list(entries)[:5] if key != "") or "nothing that has a name"
    return WeightsError(
        f"{path} holds no weights, neither at its top nor under {', '.join(KEYS)} (there is {there}). "
        "Save them again: torch.save(MODEL.state_dict(), NEW)."
    )


def _unwrapped(tensors: Mapping[str, "torch.Tensor"]) -> tuple[dict[str, "torch.Tensor"], list[str]]:
    """Tensors by name without wrappers, and what was left out of them."""
    averaged = {
        f"ema_{name.replace('.', '_')}" for name in tensors
    }  # mmcv 1 keeps both, and its average is the named one
    kept: dict[str, torch.Tensor] = {}
    skipped = []
    for name, tensor in tensors.items():
        bare = name
        while bare.startswith(WRAPPERS):
            bare = bare.partition(".")[2]
        if name in averaged:
            skipped.append(f"{shown(name)}: what mmcv kept beside its moving average")
        elif not bare or bare in kept:
            skipped.append(f"{shown(name)}: a second tensor of that name")
        else:
            kept[bare] = tensor
    return kept, skipped


def _kind(value: Any) -> str:
    match value:
        case StandIn(name=name):
            return f"an object of {name}, not built"
        case dict() | list() | tuple():
            return f"{counted(len(value), 'value')}, not weights"
        case TensorRecord():
            return "a tensor that is not among the weights"
    return f"{type(value).__name__}, not weights"


def _facts(value: Any) -> dict[str, Any]:
    """What a checkpoint tells of itself, of plain values only."""
    top = _dict(value)
    meta = _dict(top.get("meta"))
    facts: dict[str, Any] = {}
    for name in (*COUNTERS, *VERSIONS):
        said = meta.get(name, top.get(name))
        if type(said) is int or (type(said) is str and said):
            facts[name] = said if type(said) is int else shown(said)
    about = _dict(meta.get("dataset_meta"))
    classes: Any
    for classes in (about.get("classes"), about.get("CLASSES"), meta.get("CLASSES"), meta.get("classes")):
        if (
            type(classes) in (list, tuple)
            and 0 < len(classes) <= CLASSES
            and all(type(name) is str for name in classes)
        ):
            return facts | {"classes": tuple(classes)}
    return facts


def _dict(value: Any) -> dict[Any, Any]:
    return value if type(value) is dict else {}
