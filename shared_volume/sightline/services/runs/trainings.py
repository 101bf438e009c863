"""What a training says of itself in its work folder: what is trained on what, in which runs, and which models came of it.

Little is imported here: whoever changes what computes a model gives every training a new work folder.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sightline.errors import SightlineError, counted

LATEST: Final = "latest"  # stands for the category's latest training
FACTS: Final = "training.json"
RUNS: Final = "runs.txt"
MODELS: Final = "models.json"

# Of a training that another one goes on from, on the volume in a folder that the digest of its manifest names.
MANIFEST: Final = "manifest.json"
CHECKPOINT: Final = "checkpoint.pth"
BEST: Final = "best.pth"
HISTORY: Final = "history.jsonl"


def introduce(folder: Path, run: str, facts: Mapping[str, Any]) -> None:
    """Note, alone in a work folder, what is trained there (said once, by the first run) and by which run."""
    if not (folder / FACTS).is_file():
        write_json(folder / FACTS, facts)
    if run not in runs_in(folder):
        with (folder / RUNS).open("a", encoding="utf-8") as file:
            file.write(f"{run}\n")


def runs_in(folder: Path) -> list[str]:
    """The runs that trained in a work folder, in the order they came."""
    path = folder / RUNS
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def note_models(folder: Path, models: Mapping[str, str]) -> None:
    """Note, alone in a work folder, the digests of the models that came of its training: `best`, `last`."""
    write_json(folder / MODELS, models)


def too_few(run: str, done: int, planned: int) -> SightlineError:
    """That so many epochs are no more than a run's training has already."""
    return SightlineError(
        f"The run {run} has trained {counted(done, 'epoch')}, and {planned} are asked for: there is nothing to go on with. The number is that of "
        f"the whole training. Give more: --epochs {max(done * 2, done + 1)}"
    )


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; nothing where it did not."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; one process at a time."""
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
