"""Writes `sightline/models/mmdet_listed.py`: the configs that mmdet's package ships, as its metafiles describe them.

python -m tests.mmdet_index > shared_volume/sightline/models/mmdet_listed.py

Only files are read: neither mmdet nor a config runs.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

PACKAGE = "onedl-mmdetection"
SERVER = "https://download.openmmlab.com/"
TASKS = {
    "Object Detection": "detection",
    "Instance Segmentation": "instance",
    "Panoptic Segmentation": "panoptic",
    "Video Instance Segmentation": "video instance",
    "Multiple Object Tracking": "tracking",
    "Multi-object Tracking": "tracking",
    "Region Proposal": "proposals",
    "Semi-Supervised Object Detection": "semi-supervised detection",
}
"""What a metafile calls a task -> what the index calls it."""


@dataclass
class Described:
    """What the metafiles say of one config."""

    tasks: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    weights: list[str] = field(default_factory=list)

    def add(self, model: Mapping[str, Any], collection: Mapping[str, Any]) -> None:
        """What one entry of a metafile says; of two entries the first one's scores stay."""
        results = model.get("Results") or []
        told = [(each.get("Metadata") or {}).get("Training Data") for each in (model, collection)]
        trained = next(filter(None, told), None) or [each["Dataset"] for each in results if each.get("Dataset")]
        _extend(self.tasks, [TASKS[each["Task"]] for each in results])
        told_in_one = re.split(r",| and | \+ ", trained) if isinstance(trained, str) else trained
        _extend(self.data, told_in_one)
        for each in results:
            for metric, value in (each.get("Metrics") or {}).items():
                if isinstance(value, int | float):
                    self.scores.setdefault(metric, value)
        addresses = model.get("Weights") or []
        _extend(self.weights, [addresses] if isinstance(addresses, str) else addresses)


def _extend(there: list[str], more: list[str]) -> None:
    for text in map(str.strip, more):
        if text and text not in there:
            there.append(text)


def shipped() -> Path:
    """The folder of mmdet's configs; the package is found, not imported."""
    spec = importlib.util.find_spec("mmdet")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("mmdet is not installed: make setup")
    return Path(spec.submodule_search_locations[0], ".mim", "configs")


def described(configs: Path) -> dict[str, Described]:
    """Every config by its path in the folder, without its ending; `_base_` holds parts of configs, not configs."""
    files = (path.relative_to(configs) for path in sorted(configs.rglob("*.py")))
    found = {str(path.with_suffix("")): Described() for path in files if "_base_" not in path.parts}
    for metafile in sorted(configs.rglob("metafile.yml")):
        for model, collection in _models(metafile):
            if name := _config_of(model, metafile.parent, configs, found):
                found[name].add(model, collection)
            else:
                print(f"{metafile}: there is no config {model['Config']}", file=sys.stderr)
    return found


def _models(metafile: Path) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    document = yaml.safe_load(metafile.read_text())
    listed = document if isinstance(document, list) else document.get("Models") or []
    collections = [] if isinstance(document, list) else document.get("Collections") or []
    by_name = {each["Name"]: each for each in collections}
    for model in listed:
        yield model, by_name.get(model.get("In Collection"), {})


def _config_of(model: Mapping[str, Any], folder: Path, configs: Path, found: Mapping[str, object]) -> str | None:
    """As the metafile gives it, or of that name beside the metafile: a few paths there are wrong."""
    given = Path(unquote(model["Config"])).with_suffix("")
    candidates = (given.relative_to("configs") if given.parts[0] == "configs" else given, folder / given.name)
    names = (str(each.relative_to(configs) if each.is_absolute() else each) for each in candidates)
    return next((name for name in names if name in found), None)


def lines(found: Mapping[str, Described]) -> Iterator[str]:
    """A line for each folder: `folder:` and its configs, divided by `;`, of five fields each, divided by `|`."""
    folders: dict[str, list[str]] = {}
    for name, said in found.items():
        folder, _, stem = name.rpartition("/")
        scores = ",".join(f"{metric}={value:g}" for metric, value in said.scores.items())
        weights = " ".join(address.removeprefix(SERVER) for address in said.weights)
        fields = [stem, ",".join(said.tasks), "+".join(said.data), scores, weights]
        if any(mark in each for each in fields for mark in "|;\n\\"):
            raise SystemExit(f"{name}: a value has one of the marks that divide values: {fields}")
        folders.setdefault(folder, []).append("|".join(fields).rstrip("|"))
    yield from (f"{folder}:{';'.join(configs)}" for folder, configs in folders.items())


def module_text() -> str:
    """The module's source."""
    return "\n".join([
        '"""The configs that mmdet\'s package ships, for those who have no mmdet. `python -m tests.mmdet_index` writes this file,',
        'and mmdet_index.py reads it: a line for each folder."""',
        "",
        f'VERSION = "{metadata.version(PACKAGE)}"',
        f'SERVER = "{SERVER}"',
        'WRITTEN = """',
        *lines(described(shipped())),
        '"""',
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(module_text())
