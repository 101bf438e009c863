"""Processes beside the publisher hash photographs as it would itself, and their deaths lose nothing."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.images.files import ImageError, read_header
from sightline.images.similarity import perceptual_hash
from sightline.publish.hashing import Hashers, Photograph


@pytest.fixture
def photographs(tmp_path: Path) -> list[Photograph]:
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"é {number}.jpg")
    damaged = tmp_path / "é 7.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    return [(str(path), read_header(path)) for path in sorted(tmp_path.iterdir())]


def expected(photograph: Photograph) -> str:
    path, _ = photograph
    try:
        return perceptual_hash(Path(path))
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("few", [0, 10, 1000])
def test_hashes_and_reasons_are_those_of_one_process(photographs: list[Photograph], few: int) -> None:
    with Hashers(few) as hashers, ThreadPoolExecutor(3) as pool:
        batches = [photographs[start : start + 4] for start in range(0, 40, 4)]
        hashed = [str(one) for batch in pool.map(hashers.hash, batches) for one in batch]
        processes = hashers.processes
    assert hashed == [expected(one) for one in photographs]
    assert sum("cut off or damaged" in one for one in hashed) == 1
    assert bool(processes) == (few < 40)
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_killed_process_was_asked_for_is_hashed_here(photographs: list[Photograph], number: int) -> None:
    with Hashers(few=0) as hashers:
        hashers.hash(photographs[:1])
        (process,) = hashers.processes
        os.kill(process, number)
        if number == signal.SIGSTOP:  # at work when it is killed
            threading.Timer(0.3, os.kill, (process, signal.SIGKILL)).start()
        hashed = [str(one) for one in hashers.hash(photographs)]
        assert hashed == [expected(one) for one in photographs]
        assert str(hashers.hash(photographs[:1])[0]) == hashed[0]
        assert len(hashers.processes) == 2
