"""Training samples whose order and augmentation depend on seed, epoch and index alone.

No state runs from one sample to the next, so a run that resumes in mid-epoch, with any number of workers, sees exactly
the samples that an unbroken run sees.
"""

import hashlib
import random
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.processes.lifetime import die_with_direct_parent

Ticket = tuple[int, int]


def derive_seed(*parts: int) -> int:
    """A 32-bit seed from several numbers, unrelated for neighbouring numbers."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


class SeededSampler(Sampler[Ticket]):
    """A new order each epoch, as (sample index, seed of its augmentation); may start within the epoch."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine's DistSamplerSeedHook before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Ticket]:
        order = np.random.default_rng(derive_seed(self.seed, self.epoch)).permutation(self.size)
        for index in order[self.start :].tolist():
            yield index, derive_seed(self.seed, self.epoch, index)

    def __len__(self) -> int:
        return self.size


class SeededDataset(Dataset[Any]):
    """Loads a sample with every random generator set to the sample's own seed, and puts the generators back."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.metainfo = dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, ticket: Ticket) -> Any:
        index, seed = ticket
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        random.seed(seed)
        np.random.seed(seed)
        # Not torch.manual_seed: that would also reseed the GPU, whose generator belongs to the model.
        torch.default_generator.manual_seed(seed)
        try:
            return self.dataset[index]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])


def loader(config: Config, dataset: Any, seed: int | None = None) -> DataLoader[Any]:
    """Training batches, in an order and with augmentations that depend on the seed; without one single images, in order."""
    workers = config.get("num_workers", 0)
    return DataLoader(
        dataset if seed is None else SeededDataset(dataset),
        batch_size=1 if seed is None else config.train_batch_size,
        sampler=None if seed is None else SeededSampler(len(dataset), seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=pseudo_collate,
        worker_init_fn=_start_worker,
        # Its own generator: otherwise every pass draws from the generator that the model uses.
        generator=torch.Generator(),
    )


def _start_worker(number: int) -> None:
    """Runs in each data loading process before its first sample."""
    die_with_direct_parent()

    def send_error(queue: Any, error: Exception, ticket_and_batch: Any) -> None:
        caught = ExceptionWrapper((type(error), error, error.__traceback__), f"in DataLoader worker process {number}")
        queue.put((ticket_and_batch[0], caught))

    # A batch that cannot be sent (no room in shared memory) is dropped with a line on stderr, and the training would wait
    # for it for good.
    Queue._on_queue_feeder_error = send_error  # type: ignore[attr-defined]
