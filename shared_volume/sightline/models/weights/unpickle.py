"""A pickle read as plain data: numbers, text, lists, dicts and descriptions of tensors. Nothing that it names is called.

`torch.load(weights_only=True)` is not used: it refuses every file with a class that it does not know, cannot be taught to
skip one (items for a stand-in are an error, and so is protocol 4), and allocates what a file asks for. With a `pickle_module`
of ours it would hand TorchScript to `torch.jit.load` and tar files to `tarfile.extract`. So this is the standard library's
unpickler, the one written in Python (the one in C reserves memory for any memo index), with its dangerous instructions
replaced or taken away.
"""

import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from sightline.models.weights.base import shown
from sightline.models.weights.records import BUILDERS, Named, NotPlainError, StandIn, put, storage

BYTES = 256 << 20  # of a pickle; weights themselves lie beside it
READS = 5_000_000  # about as many instructions; a detector with its optimizer has some 100,000
RENAMED = {"__builtin__": "builtins"}  # of Python 2


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Unpickled:
    """What a pickle holds."""

    value: Any
    stood_in: Mapping[str, int]  # class or function -> how many of it were asked for and not built
    kinds: Mapping[str, str]  # storage key -> FloatStorage


def unpickle(source: Source) -> Unpickled:
    """Read one pickle from where `source` stands.

    Tensors are `TensorRecord`; sets are lists, and an object of any other class is a `StandIn`, its contents left out.

    Raises:
        NotPlainError: it is damaged or too large, or its instructions are none that a checkpoint has.
    """
    unpickler = _Unpickler(_Bounded(source))
    try:
        value = unpickler.load()
    except NotPlainError:
        raise
    except EOFError as error:
        raise NotPlainError("it ends early") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise NotPlainError(f"its contents are damaged ({type(error).__name__})") from error
    return Unpickled(value, MappingProxyType(dict(unpickler.stood_in)), MappingProxyType(unpickler.kinds))


class _Bounded:
    """A file that ends the reading when it is too long, too short, or has too many instructions."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reads = self._bytes = 0

    def read(self, size: int) -> bytes:
        if size > BYTES:
            raise NotPlainError(f"it holds a value of {size:,} bytes beside its tensors")
        read = self._source.read(size)
        if len(read) < size:
            raise EOFError
        return self._counted(read)

    def readline(self) -> bytes:
        return self._counted(self._source.readline())

    def _counted(self, read: bytes) -> bytes:
        self._reads += 1
        self._bytes += len(read)
        if self._reads > READS or self._bytes > BYTES:
            raise NotPlainError("it holds far more than weights")
        return read


class _Unpickler(pickle._Unpickler):
    stack: list[Any]  # what types of the standard library leave out
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, source: _Bounded) -> None:
        # latin1: Python 2 wrote text as bytes, and any byte has to be readable.
        super().__init__(source, encoding="latin1")
        self.stood_in: Counter[str] = Counter()
        self.kinds: dict[str, str] = {}
        self.copied = 0  # entries of containers that were built from others

    def find_class(self, module: str, name: str) -> Any:
        return Named(shown(f"{RENAMED.get(module, module)}.{name}"))

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", Named(name=kind), str() as key, str(), int() as count, *rest):
                kind = self.kinds.setdefault(key, kind.rpartition(".")[2])
                return storage(kind, key, count, rest[0] if rest else None)
            case ("module", Named(name=name), *_):
                return Named(name)
        raise NotPlainError("it refers to something outside itself that is no tensor")

    def call(self, function: Any, arguments: Any) -> Any:
        """What a function or class gives for its arguments: our own builder's value, or a stand-in."""
        if type(function) is not Named or type(arguments) is not tuple:
            raise NotPlainError("it calls something that is no function")
        builder = BUILDERS.get(function.name)
        if builder is not None:
            self.copied += sum(len(given) for given in arguments if type(given) in (list, tuple, dict))
            if self.copied > READS:
                raise NotPlainError("it holds far more than weights")
            return builder(*arguments)
        self.stood_in[function.name] += 1
        return StandIn(function.name)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.append(self.call(self.stack.pop(), arguments))

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # keyword arguments
        self.load_reduce()

    def load_build(self) -> None:
        self.stack.pop()  # attributes: of a tensor, a dict or a stand-in, none of which we keep
        if not self.stack:
            raise NotPlainError("its contents are damaged")

    def load_append(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def load_frame(self) -> None:
        self.read(8)  # its length: frames only say what to read ahead, which would go past our count

    def load_empty_set(self) -> None:
        self.append([])

    def load_frozenset(self) -> None:
        self.append(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(items)
        elif type(self.stack[-1]) is not StandIn:
            raise NotPlainError("it appends to something that is no list")

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is dict:
            for key, value in zip(items[::2], items[1::2], strict=True):
                put(target, key, value)
        elif type(target) is not StandIn:
            raise NotPlainError("it sets items of something that is no dict")

    # Only what checkpoints have: protocols 2 to 5 without extensions, buffers, and the oldest ways to name a class.
    dispatch: ClassVar[Any] = {
        code: function
        for code, function in pickle._Unpickler.dispatch.items()
        if bytes([code])
        not in (
            *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.DICT, pickle.PERSID),
            *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
        )
    } | {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.ADDITEMS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.FRAME[0]: load_frame,
        pickle.EMPTY_SET[0]: load_empty_set,
        pickle.FROZENSET[0]: load_frozenset,
    }
