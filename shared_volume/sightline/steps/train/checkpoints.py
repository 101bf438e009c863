"""Checkpoints to resume from: written whole or not at all.

The last two are flushed to the disk, so that they outlive the machine. Between them a light one is replaced every few
seconds without waiting for the disk: it outlives a killed process, which is what happens most.
"""

import logging
import os
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

log = logging.getLogger(__name__)

KEPT = 2
PATTERN = "iter_*.pth"
LIGHT = "light.pth"


def save_checkpoint(folder: Path, iteration: int, state: Mapping[str, Any]) -> None:
    """Write a checkpoint and remove the older ones but one."""
    save_whole(folder / f"iter_{iteration:08d}.pth", state)
    for old in sorted(folder.glob(PATTERN))[:-KEPT]:
        old.unlink()


def save_whole(path: Path, state: Mapping[str, Any], flush: bool = True) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:
            asked = error.__context__
            if asked is None or isinstance(asked, Exception):
                raise
            raise asked from None  # to end, while torch was writing, which tells that as a failure of its own
        file.flush()
        if flush:
            os.fsync(file.fileno())
    temporary.replace(path)


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that loads whole; a damaged one is passed over for the one before it."""
    light = _load(folder / LIGHT) if (folder / LIGHT).is_file() else None
    for path in sorted(folder.glob(PATTERN), reverse=True):
        if light is not None and light["iter"] > int(path.stem.partition("_")[2]):
            return light
        state = _load(path)
        if state is not None:
            return state
    return light


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return load_plain(path)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        log.warning("%s is damaged (%s); trying the checkpoint before it", path.name, error)
        return None


def load_plain(path: Path) -> dict[str, Any]:
    """A file of tensors and plain values; nothing else is unpickled."""
    return torch.load(path, map_location="cpu", weights_only=True)


def random_states() -> dict[str, Any]:
    """The state of every random generator, as tensors and plain values."""
    version, integers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    words = np.asarray(keys).astype(np.int64)
    return {
        "python": [version, list(integers), gauss],
        "numpy": [name, torch.from_numpy(words), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put every random generator where `random_states` found it."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
