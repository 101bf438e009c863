"""Model bundles: written whole, verified before use, nothing in them executed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sightline.models.bundle import BundleError, load_state, parse_config, read_bundle, write_bundle

CONFIG = "model = dict(type='Tiny', sizes=[1, -2], scale=(3, 4), inner={'a': None})\nmax_epochs = 3\n"
FACTS = {"dataset_version": "v0.1.0", "metrics": {"bbox_mAP": 0.5}}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    model[2].weight = model[0].weight  # tied: safetensors by itself refuses these
    return model


@pytest.fixture
def bundle(tmp_path, model):
    """A written bundle: its folder and digest."""
    image = tmp_path / "photo.JPG"
    image.write_bytes(b"pixels")
    predictions = [{"image_id": 1, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}]
    folder = tmp_path / "best"
    return folder, write_bundle(folder, model.state_dict(), CONFIG, ["cup", "Tür"], image, predictions, FACTS)


def test_a_bundle_reads_back_as_it_was_written(bundle, model):
    folder, digest = bundle
    found = read_bundle(folder, digest)
    assert found.sha256 == digest
    assert found.classes == ("cup", "Tür")
    assert found.config == {
        "model": {"type": "Tiny", "sizes": [1, -2], "scale": (3, 4), "inner": {"a": None}},
        "max_epochs": 3,
    }
    assert found.facts == FACTS
    assert found.versions["torch"] == torch.__version__.split("+")[0] or found.versions["torch"] == torch.__version__
    assert found.sample_image == folder / "sample.jpg"
    assert found.sample_image.read_bytes() == b"pixels"
    assert found.sample_predictions[0]["bbox"] == [1.0, 2.0, 3.0, 4.0]
    other = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    load_state(found, other)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_the_same_model_gives_the_same_bytes_and_replaces_the_folder(bundle, model, tmp_path):
    folder, digest = bundle
    again = write_bundle(
        folder,
        model.state_dict(),
        CONFIG,
        ["cup", "Tür"],
        tmp_path / "photo.JPG",
        read_bundle(folder).sample_predictions,
        FACTS,
    )
    assert again == digest
    without = write_bundle(folder, model.state_dict(), CONFIG, ["cup", "Tür"], None, None, FACTS)
    assert without != digest
    assert read_bundle(folder, without).sample_image is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "photo.JPG"]


def test_a_failed_write_leaves_the_old_bundle(bundle, tmp_path):
    folder, digest = bundle
    with pytest.raises(BundleError, match="nothing to execute"):
        write_bundle(folder, {}, "import os\n", ["cup"], None, None, {})
    with pytest.raises(FileNotFoundError):
        write_bundle(folder, {}, CONFIG, ["cup"], tmp_path / "gone.jpg", None, {})
    assert read_bundle(folder, digest).classes == ("cup", "Tür")


FILES = ["model.safetensors", "config.py", "classes.json", "sample.jpg", "sample.predictions.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named(bundle, name):
    path = bundle[0] / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"changed: {name}"):
        read_bundle(bundle[0])


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle[0] / name).unlink()
    with pytest.raises(BundleError, match=f"missing: {name}"):
        read_bundle(bundle[0])


def test_a_file_that_does_not_belong_is_named(bundle):
    (bundle[0] / "pickle.pth").write_bytes(b"")
    with pytest.raises(BundleError, match="not the bundle's: pickle.pth"):
        read_bundle(bundle[0])


def test_a_manifest_changed_with_its_files_fails_against_the_known_digest(bundle):
    folder, digest = bundle
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["facts"]["metrics"]["bbox_mAP"] = 0.99
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert read_bundle(folder).facts["metrics"]["bbox_mAP"] == 0.99
    with pytest.raises(BundleError, match=f"not {digest[:12]}"):
        read_bundle(folder, digest)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "files": {}, "facts": []}', b"\xff"])
def test_a_broken_manifest_is_no_bundle(bundle, content):
    (bundle[0] / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError):
        read_bundle(bundle[0])


def test_no_bundle_at_all_says_what_is_missing(tmp_path):
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        read_bundle(tmp_path / "nowhere")


def test_weights_changed_after_verifying_are_refused(bundle, model):
    found = read_bundle(bundle[0])
    (bundle[0] / "model.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.safetensors is not the file"):
        load_state(found, model)


def test_a_write_that_fails_at_the_last_moment_puts_the_old_bundle_back(bundle, monkeypatch):
    folder, digest = bundle
    rename = Path.rename

    def fail_into_place(path, target):
        if target == folder:
            monkeypatch.setattr(Path, "rename", rename)
            raise OSError("disk")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_into_place)
    with pytest.raises(OSError, match="disk"):
        write_bundle(folder, {}, CONFIG, ["other"], None, None, {})
    assert read_bundle(folder, digest).classes == ("cup", "Tür")
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_weights_that_do_not_fit_are_refused(bundle):
    with pytest.raises(BundleError, match="do not fit"):
        load_state(read_bundle(bundle[0]), torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "a = open('/etc/passwd')",
        "a = dict(b=__import__('os').system('true'))",
        "a = dict(**b)",
        "a = dict([(1, 2)])",
        "a = {**b}",
        "a = [x for x in (1, 2)]",
        "a = b",
        "a.b = 1",
        "a = f'{1}'",
        "a = 1 + 1",
        "a += 1",
        "a = {[]: 1}",
        "a = (",
        "a = '\0'",
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "-" * 5000 + "1",
    ],
)
def test_a_config_that_is_more_than_data_is_refused(text):
    with pytest.raises(BundleError):
        parse_config(text, "config.py")


def test_reading_a_bundle_imports_no_torch(bundle):
    code = f"""
import sys
from sightline.models.bundle import read_bundle
read_bundle({str(bundle[0])!r})
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
