"""Weights from files of others: what is read, what is left out, and that no code of a file ever runs."""

import argparse
import collections
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sightline.models.weights.base import WeightsError
from sightline.models.weights.checkpoints import read_weights

TENSORS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 4), "bn.num_batches_tracked": torch.tensor(7)}


def save(path: Path, value: object, **options: object) -> Path:
    torch.save(value, path, **options)
    return path


def same(tensors, expected) -> bool:
    return tensors.keys() == expected.keys() and all(torch.equal(tensors[name], expected[name]) for name in expected)


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older form"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_file_of_torch_save_gives_its_tensors(tmp_path, zipped, protocol):
    kinds = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    tensors = {kind: torch.arange(5).to(getattr(torch, kind)) for kind in kinds}
    shared = torch.arange(12.0)
    tensors |= {"view": shared[2:8].reshape(2, 3), "turned": shared.reshape(3, 4).t(), "scalar": torch.tensor(2.5)}
    tensors |= {"empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(torch.ones(2))}
    options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}
    read = read_weights(save(tmp_path / "w.pth", tensors, **options))
    assert same(read.tensors, tensors)
    assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in read.tensors.values())
    assert (read.skipped, dict(read.facts)) == ((), {})


def test_safetensors_give_their_tensors_whatever_their_name(tmp_path):
    save_file({f"module.{name}": tensor for name, tensor in TENSORS.items()}, tmp_path / "weights", {"epoch": "3"})
    read = read_weights(tmp_path / "weights")
    assert same(read.tensors, TENSORS)
    assert dict(read.facts) == {"epoch": "3"}


def test_a_tensor_that_is_changed_does_not_change_the_file(tmp_path):
    path = save(tmp_path / "w.pth", TENSORS)
    before = path.read_bytes()
    read_weights(path).tensors["conv.weight"].zero_()
    assert path.read_bytes() == before
    assert same(read_weights(path).tensors, TENSORS)


OTHERS = {"conv.weight": torch.zeros(1)}


@pytest.mark.parametrize(
    ("checkpoint", "key"),
    [
        (TENSORS, None),
        ({"state_dict": TENSORS, "epoch": 3}, "state_dict"),
        ({"state_dict": TENSORS, "ema_state_dict": OTHERS}, "state_dict"),  # mmengine: swapped when it saves
        ({"state_dict": OTHERS, "state_dict_ema": TENSORS}, "state_dict_ema"),
        ({"model": OTHERS, "model_ema": TENSORS}, "model_ema"),
        ({"model": {"state_dict": TENSORS}}, "model.state_dict"),
        ({"module": TENSORS}, "module"),
        ({"model": {f"module.{name}": tensor for name, tensor in TENSORS.items()}}, "model"),
        ({"model": {f"_orig_mod.module.{name}": tensor for name, tensor in TENSORS.items()}}, "model"),
        ({"state_dict": TENSORS | {"ema_conv_weight": torch.zeros(1)}}, "state_dict"),  # mmcv 1
    ],
)
def test_the_weights_are_found_under_the_names_that_tools_give_them(tmp_path, checkpoint, key):
    read = read_weights(save(tmp_path / "w.pth", checkpoint))
    assert same(read.tensors, TENSORS)
    assert read.facts.get("key") == key


class Stranger(dict):
    """A user's class: a dict with attributes."""


def test_what_is_no_tensor_is_left_out_and_listed(tmp_path):
    strange = Stranger(a=1)
    strange.mood = "odd"
    checkpoint = {
        "state_dict": TENSORS | {"note": "text"},
        "args": argparse.Namespace(lr=0.1),
        "config": strange,
        "best": np.float64(0.5),
        "curve": np.arange(4),
        "kept": collections.defaultdict(list, {"a": [1]}),
        "seen": {1, 2},
        "last": collections.deque([1, 2]),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
    }
    read = read_weights(save(tmp_path / "w.pth", checkpoint))
    assert same(read.tensors, TENSORS)
    lines = dict(line.split(": ", 1) for line in read.skipped)
    assert lines["note"] == "str, not weights"
    assert lines["args"] == "an object of argparse.Namespace, not built"
    assert lines["config"] == f"an object of {__name__}.Stranger, not built"
    assert lines["optimizer"] == lines["kept"] == "1 value, not weights"
    assert lines["seen"] == lines["last"] == "2 values, not weights"
    assert lines["argparse.Namespace"] == "1 object, not built"


def test_a_checkpoint_of_mmengine_gives_weights_classes_and_versions(tmp_path):
    """Made by mmengine's own Runner and its CheckpointHook: message hub, optimizer, schedule and moving average."""
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Tiny(BaseModel):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1)
            self.bn = torch.nn.BatchNorm2d(2)

        def forward(self, inputs, mode="tensor"):
            return {"loss": self.bn(self.conv(inputs)).square().mean()}

    class Photos(torch.utils.data.Dataset):
        METAINFO = metainfo = {"classes": ("cup", "pen"), "palette": [(1, 2, 3), (4, 5, 6)]}

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"inputs": torch.full((3, 4, 4), float(index))}

    runner = Runner(
        default_scope="mmdet",  # it stays for whatever is built next in this process
        model=Tiny(),
        work_dir=str(tmp_path),
        train_dataloader={
            "batch_size": 2,
            "dataset": Photos(),
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "Adam", "lr": 0.1}},
        param_scheduler={"type": "LinearLR", "start_factor": 0.5, "end": 2},
        custom_hooks=[{"type": "EMAHook"}],
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1}},
        experiment_name=f"weights-{os.getpid()}",
        log_level="ERROR",
    )
    runner.train()
    read = read_weights(tmp_path / "epoch_2.pth")
    trusted = torch.load(tmp_path / "epoch_2.pth", weights_only=False)
    assert same(read.tensors, trusted["state_dict"])
    averaged = runner._hooks[[type(hook).__name__ for hook in runner._hooks].index("EMAHook")].ema_model.module
    assert torch.equal(read.tensors["conv.weight"], averaged.conv.weight)
    assert read.facts["classes"] == ("cup", "pen")
    assert (read.facts["epoch"], read.facts["iter"]) == (2, 4)
    assert read.facts["mmengine_version"] == trusted["meta"]["mmengine_version"]
    assert any("HistoryBuffer: " in line for line in read.skipped)
    assert any(line.startswith("ema_state_dict: ") for line in read.skipped)


def test_a_large_file_needs_its_size_in_memory_no_more_than_once(tmp_path):
    """Loaded into a model in a process of its own: model and file together are twice the file's size."""
    size = 64 << 20
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        save(path, {"state_dict": {"w": torch.ones(size // 4)}}, _use_new_zipfile_serialization=zipped)
        code = (
            "import sys, resource, torch, safetensors\n"
            "from pathlib import Path\n"
            "from sightline.models.weights.checkpoints import read_weights\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
            "before = peak()\n"
            "w = read_weights(Path(sys.argv[1])).tensors['w']\n"
            "assert w.sum() == len(w)\n"
            "print(peak() - before)\n"
        )
        library = str(Path(__file__).parents[2] / "shared_volume")
        env = os.environ | {"PYTHONPATH": library, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", code, path], env=env, capture_output=True, text=True, check=True)
        assert int(done.stdout) < 1.3 * size


# --- files that are no weights ---------------------------------------------------------------------------------------


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 30_000_000 + b"N.")
    with pytest.raises(WeightsError, match="is compressed or encrypted"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older form"])
def test_a_file_that_is_cut_off_anywhere_says_so(tmp_path, zipped):
    path = save(tmp_path / "w.pth", {"state_dict": TENSORS}, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in (4, 100, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"not whole|ends early|damaged"):
            read_weights(path)


def test_safetensors_that_are_cut_off_say_so(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-5])
    with pytest.raises(WeightsError, match="not whole"):
        read_weights(tmp_path / "w.safetensors")


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>" * 20, "page or a message of a server"),
        (json.dumps({"data": {"error": "not found"}}).encode(), "page or a message of a server"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (tar(), "tar file"),
        (b"\x1f\x8b\x08" + b"\0" * 600, "it is compressed"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "HDF5"),
        (b"some text that is long enough" * 30, "neither"),
        (pickle.dumps({"model": {"w": np.ones(3)}}, 2), "torch.save did not write"),
        (pickle.dumps({"model": [1]}, 4), "torch.save did not write"),
    ],
)
def test_a_file_that_is_something_else_is_named_for_what_it_is(tmp_path, content, told):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=told) as caught:
        read_weights(tmp_path / "w.pth")
    assert str(tmp_path / "w.pth") in str(caught.value)


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_weights(path)


def test_a_whole_model_a_program_and_an_archive_say_what_to_save_instead(tmp_path):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match=r"torch.nn.modules.linear.Linear instead of weights.*state_dict"):
        read_weights(save(tmp_path / "w.pth", {"model": model}))
    with pytest.raises(WeightsError, match=r"torch.nn.modules.linear.Linear instead of weights"):
        read_weights(save(tmp_path / "w.pth", model, _use_new_zipfile_serialization=False))
    torch.jit.save(torch.jit.trace(model, torch.ones(1, 2)), tmp_path / "program.pt")
    with pytest.raises(WeightsError, match="TorchScript program"):
        read_weights(tmp_path / "program.pt")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"")
    with pytest.raises(WeightsError, match=r"zip file without weights \(it holds a.jpg\)"):
        read_weights(tmp_path / "photos.zip")
    with pytest.raises(WeightsError, match="there is epoch"):
        read_weights(save(tmp_path / "w.pth", {"epoch": 3}))


def test_what_a_file_calls_its_things_cannot_write_to_a_terminal(tmp_path):
    read = read_weights(save(tmp_path / "w.pth", {"state_dict": TENSORS, "\x1b[2J\nevil" + "a" * 500: 1}))
    (line,) = read.skipped
    assert line.startswith("?[2J?evil")
    assert len(line) < 200
