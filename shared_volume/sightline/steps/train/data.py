"""Training samples whose order and augmentation depend on seed, epoch and index alone.

No state runs from one sample to the next, so a run that resumes in mid-epoch, with any number of workers, sees exactly
the samples that an unbroken run sees.
"""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATA_SAMPLERS
from torch._utils import ExceptionWrapper
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from sightline.processes.lifetime import die_with_direct_parent

Ticket = tuple[int, int]


def derive_seed(*parts: int) -> int:
    """A 32-bit seed from several numbers, unrelated for neighbouring numbers."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


class SeededSampler(Sampler[int]):
    """A new order each epoch; batch samplers that look at the images find their dataset here."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine's DistSamplerSeedHook before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng(derive_seed(self.seed, self.epoch)).permutation(len(self)).tolist()

    def __len__(self) -> int:
        return len(self.dataset)


class SeededBatches(Sampler[list[Ticket]]):
    """A config's batches, each sample as (its index, the seed of its augmentation); may start within the epoch."""

    def __init__(self, make_batches: Callable[[SeededSampler], Any], sampler: SeededSampler) -> None:
        self.sampler = sampler  # mmengine's hook looks for it here
        self.start = 0  # batches that were taken already
        self._make = make_batches

    def __iter__(self) -> Iterator[list[Ticket]]:
        seed, epoch = self.sampler.seed, self.sampler.epoch
        # Made anew: a batch sampler may keep what is left of a pass that was not taken to its end.
        for batch in itertools.islice(self._make(self.sampler), self.start, None):
            yield [(index, derive_seed(seed, epoch, index)) for index in batch]

    def __len__(self) -> int:
        return len(self._make(self.sampler))


class SeededDataset(Dataset[Any]):
    """Loads a sample with every random generator set to the sample's own seed, and puts the generators back.

    For all else it is the dataset within: hooks change its pipeline.
    """

    def __init__(self, dataset: Any) -> None:
        self.__dict__["dataset"] = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "dataset" or name.startswith("__"):  # not there yet, in a worker that unpickles this
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)

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
    batches = None if seed is None else SeededBatches(partial(_batches, config), SeededSampler(dataset, seed))
    return DataLoader(
        dataset if seed is None else SeededDataset(dataset),
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=pseudo_collate,
        worker_init_fn=_start_worker,
        # Its own generator: otherwise every pass draws from the generator that the model uses.
        generator=torch.Generator(),
    )


def _batches(config: Config, sampler: SeededSampler) -> Any:
    size, drop_last = config.train_batch_size, config.get("drop_last", False)
    if described := config.get("batch_sampler"):
        return DATA_SAMPLERS.build(
            {**described, "drop_last": drop_last}, default_args={"sampler": sampler, "batch_size": size}
        )
    return BatchSampler(sampler, size, drop_last)


def _start_worker(number: int) -> None:
    """Runs in each data loading process before its first sample."""
    die_with_direct_parent()

    def send_error(queue: Any, error: Exception, ticket_and_batch: Any) -> None:
        caught = ExceptionWrapper((type(error), error, error.__traceback__), f"in DataLoader worker process {number}")
        queue.put((ticket_and_batch[0], caught))

    # A batch that cannot be sent (no room in shared memory) is dropped with a line on stderr, and the training would wait
    # for it for good.
    Queue._on_queue_feeder_error = send_error  # type: ignore[attr-defined]
