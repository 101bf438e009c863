"""Files that attack who reads them: no code of theirs runs, and none takes more memory or time than a file of weights may."""

import argparse
import collections
import io
import os
import pickle
import resource
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from sightline.models.weights.base import WeightsError
from sightline.models.weights.checkpoints import read_weights
from sightline.models.weights.unpickle import NotPlainError, unpickle

TENSORS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 4), "bn.num_batches_tracked": torch.tensor(7)}


def save(path: Path, value: object, **options: object) -> Path:
    torch.save(value, path, **options)
    return path


def same(tensors, expected) -> bool:
    return tensors.keys() == expected.keys() and all(torch.equal(tensors[name], expected[name]) for name in expected)


# --- code in a file --------------------------------------------------------------------------------------------------


class Runs:
    """Pickled as a call of a function with arguments."""

    def __init__(self, function, *arguments, state=None, items=None):
        self.reduced = (function, arguments, state, items)

    def __reduce__(self):
        return self.reduced


def attacks(canary: Path) -> dict[str, object]:
    command = f"touch {canary}"
    return {
        "system": Runs(os.system, command),
        "eval": Runs(eval, f"open({str(canary)!r}, 'w')"),
        "open": Runs(open, str(canary), "w"),
        "popen": Runs(subprocess.Popen, ["touch", str(canary)]),
        "in a dict's factory": Runs(collections.defaultdict, Runs(os.system, command)),
        "in arguments of a tensor": Runs(torch._utils._rebuild_parameter, Runs(os.system, command), False, {}),
        "through a rebuilder that calls": Runs(
            torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (command,), {}
        ),
        "in a state": Runs(argparse.Namespace, state={"a": Runs(os.system, command)}),
        "in a state of a dict": Runs(collections.OrderedDict, state={"__class__": Runs(os.system, command)}),
        "in items": Runs(list, items=iter([Runs(os.system, command)])),
        "module by name": Runs(__import__, "os"),
    }


ATTACKS = list(attacks(Path("canary")))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older form"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_code_in_a_file_never_runs(tmp_path, attack, zipped):
    canary = tmp_path / "canary"
    value = attacks(canary)[attack]
    path = save(tmp_path / "w.pth", {"state_dict": TENSORS, "x": value}, _use_new_zipfile_serialization=zipped)
    try:
        read = read_weights(path)
    except WeightsError:
        read = None
    assert not canary.exists()
    assert read is None or same(read.tensors, TENSORS)
    if attack == "system":
        assert read is not None
        assert "posix.system: 1 object, not built" in read.skipped


def test_the_canary_dies_where_a_file_is_trusted(tmp_path):
    """The files of the test above do what they say when pickle is let loose on them."""
    canary = tmp_path / "canary"
    torch.load(save(tmp_path / "w.pth", attacks(canary)["system"]), weights_only=False)
    assert canary.exists()


def test_a_weight_that_is_an_attack_is_left_out_of_the_weights(tmp_path):
    canary = tmp_path / "canary"
    weights = TENSORS | {"x": Runs(os.system, f"touch {canary}")}
    read = read_weights(save(tmp_path / "w.pth", weights))
    assert same(read.tensors, TENSORS)
    assert "x: an object of posix.system, not built" in read.skipped
    assert not canary.exists()


SYSTEM = b"cposix\nsystem\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize(
    "instructions",
    {
        "an object's own class": SYSTEM + b"\x81.",
        "instance by name": b"(" + text("touch CANARY") + b"iposix\nsystem\n.",
        "object from a mark": b"(" + SYSTEM + text("touch CANARY") + b"o.",
        "extension registry": b"\x82\x01.",
        "persistent id": text("id") + b"Q.",
        "persistent id in text": b"Ptouch CANARY\n.",
        "call of a string": text("system") + text("touch CANARY") + b"\x85R.",
        "memo that was never kept": b"h\x05.",
        "nothing on the stack": b"R.",
        "items of a number": b"K\x01" + text("a") + text("b") + b"s.",
        "items for a class": SYSTEM + text("a") + text("b") + b"s.",
        "a value longer than the file": b"X" + struct.pack("<I", 1 << 31) + b"a.",
        "bytes that are reserved first": b"\x96" + struct.pack("<Q", 1 << 40) + b"a.",
        "a buffer from outside": b"\x97.",
        "no end": b"]" * 10,
        "an unknown instruction": b"\xff.",
        "a protocol of the future": b"\x80\x63N.",
    }.items(),
    ids=lambda item: item[0],
)
def test_instructions_that_no_checkpoint_has_end_the_reading(instructions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotPlainError):
        unpickle(io.BytesIO(instructions[1].replace(b"CANARY", b"CAN")))
    assert list(tmp_path.iterdir()) == []


def test_a_state_for_a_function_changes_nothing():
    """With the standard library's BUILD this changes the function's defaults for the whole process."""
    instructions = b"ctorch._utils\n_rebuild_tensor\nN}" + text("__defaults__") + b"N\x85s\x86b."
    before = torch._utils._rebuild_tensor.__defaults__
    unpickle(io.BytesIO(instructions))
    assert torch._utils._rebuild_tensor.__defaults__ == before


@pytest.mark.parametrize(
    "instructions",
    {
        "a memo with four billion places": b"]r" + struct.pack("<I", 0xFFFFFFFF) + b".",
        "a list in a list in a list": b"]" * 200_000 + b"a" * 199_999 + b".",
        "a tuple in a tuple as a key": b"})" + b"\x85" * 200_000 + b"Ns.",
        "a list that holds itself": b"]q\x00h\x00a.",
        "a dict that is its own weights": b"}q\x00" + text("model") + b"h\x00s.",
    }.items(),
    ids=lambda item: item[0],
)
def test_instructions_meant_to_exhaust_a_reader_do_not(instructions):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unpickle(io.BytesIO(instructions[1]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_more_instructions_than_any_checkpoint_has_end_the_reading(monkeypatch):
    monkeypatch.setattr("sightline.models.weights.unpickle.READS", 50_000)
    endless = b"(" + b"]" * 50_001 + b"t."
    framed = b"(\x95" + struct.pack("<Q", 60_000) + b"]" * 59_998 + b"t."
    copies = b"(" + b"N" * 1_000 + b"lq\x00(" + b"c__builtin__\nlist\nh\x00\x85R" * 60 + b"t."
    for instructions in (endless, framed, copies):
        with pytest.raises(NotPlainError, match="more than weights"):
            unpickle(io.BytesIO(instructions))


def test_a_file_whose_weights_contain_themselves_is_refused_in_a_sentence(tmp_path):
    checkpoint: dict[str, object] = {}
    checkpoint["model"] = checkpoint
    with pytest.raises(WeightsError, match="holds no weights"):
        read_weights(save(tmp_path / "w.pth", checkpoint))


@pytest.mark.parametrize(
    ("storage", "arguments"),
    [
        (4, (0, (1 << 40,), (0,))),  # repeats one number
        (4, (0, (1 << 20,), (1,))),
        (4, (3, (2,), (1,))),
        (4, (-1, (2,), (1,))),
        (4, (0, (2,), (-1,))),
        (4, (0, (2,), (1, 1))),
        (1 << 40, (0, (2,), (1,))),  # the storage is larger than the file
        (4, (0, (1 << 50,), (1,))),
        (6, (0, (6,), (1,))),  # its numbers go on behind their place
    ],
)
def test_a_tensor_that_is_more_than_the_file_holds_is_refused(tmp_path, storage, arguments):
    numbers = object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, "0", "cpu", storage) if thing is numbers else None

    class Tensor:
        def __reduce__(self):
            return (torch._utils._rebuild_tensor_v2, (numbers, *arguments, False, collections.OrderedDict()))

    pickled = io.BytesIO()
    Pickler(pickled, 2).dump({"w": Tensor()})
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/data/0", b"\0" * 16)
        archive.writestr("archive/data/1", b"\0" * 16)
    with pytest.raises(WeightsError, match=r"larger than its numbers|impossible shape|not whole"):
        read_weights(tmp_path / "w.pth")
