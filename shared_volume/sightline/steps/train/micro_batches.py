"""A batch in parts, for less memory: forward and backward part by part, one optimizer step for all.

The loader still gives the configured batches, so iterations, schedules, data order and checkpoints stay as they are.
How many images are taken at a time lies in the work folder: whoever goes on with the training starts with that.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sightline.errors import SightlineError
from sightline.processes.memory import memory_limit

if TYPE_CHECKING:
    from sightline.services.runs.supervise import Stopped

log = logging.getLogger(__name__)

FILE = "micro_batches.json"


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """How a training fits into memory, and how the last try did not."""

    images: int  # taken at a time
    without_workers: bool  # data is loaded in the training's own process
    reason: str  # what happened, to follow a subject
    at: str  # when it happened, ISO 8601
    gpu: bool  # it was the GPU's memory
    memory: int | None  # bytes there were; None when unknown. With more, whole batches are tried again

    def write(self, folder: Path) -> None:
        """Keep it in a work folder."""
        new = folder / f"{FILE}.new"
        new.write_text(json.dumps(asdict(self)))
        new.replace(folder / FILE)


def read_micro_batches(folder: Path, device: torch.device) -> MicroBatches | None:
    """What a work folder says, or None: whole batches. Forgotten when there is more memory now than there was."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = MicroBatches(**json.loads(path.read_text()))
    if (_memory(found.gpu, device) or 0) > (found.memory or 0) > 0:
        log.info("there is more memory than when the training %s: whole batches again", found.reason)
        path.unlink()
        return None
    return found


def halve(now: MicroBatches | None, batch: int, workers: int, stopped: "Stopped", device: torch.device) -> MicroBatches:
    """Half as many images at a time, after memory ran out; no data loading processes, after one of them was killed.

    `now` is how it was done so far; the size of a batch and the number of workers are the config's. A SightlineError where it
    was one image at a time already.
    """
    images = min(now.images, batch) if now else batch
    without_workers = now is not None and now.without_workers
    if images == 1 and not (stopped.worker and workers and not without_workers):
        more = "a GPU with more memory" if stopped.gpu else "more memory (train_memory)"
        raise SightlineError(
            f"Training {stopped.reason}, even with one image at a time. Give it {more}, or train on smaller images or "
            "with a smaller model (train_config)."
        )
    return MicroBatches(
        images=(images + 1) // 2,
        without_workers=without_workers or stopped.worker,
        reason=stopped.reason,
        at=stopped.at.isoformat(),
        gpu=stopped.gpu,
        memory=_memory(stopped.gpu, device),
    )


def shown_as_parts(batch: int, images: int) -> str:
    """A batch for people: `4`, or in parts: `4 as 2 x 2`."""
    if images >= batch:
        return str(batch)
    parts = -(-batch // images)
    return f"{batch} as {parts} x {'' if batch % images == 0 else 'up to '}{images}"


def train_in_parts(model: Any, optim_wrapper: Any, batch: Any, images: int) -> dict[str, torch.Tensor]:
    """One optimizer step on a batch, so many images at a time; a part's loss weighs as much as its share of the images.

    Returns the batch's losses by name, as the model's own `train_step` does.
    """
    total = len(batch["inputs"])
    values: dict[str, torch.Tensor] = {}
    for start in range(0, total, images):
        if start:  # a wrapper that accumulates over batches counts a batch once
            optim_wrapper._inner_count -= 1
        part = _slice(batch, slice(start, start + images))
        share = len(part["inputs"]) / total
        with optim_wrapper.optim_context(model):
            losses = model._run_forward(model.data_preprocessor(part, True), mode="loss")
        loss, named = model.parse_losses(losses)
        optim_wrapper.backward(optim_wrapper.scale_loss(loss) * share)
        for name, value in named.items():
            values[name] = values.get(name, 0) + value.detach() * share
    if optim_wrapper.should_update():
        optim_wrapper.step()
        optim_wrapper.zero_grad()
    return values


def _slice(value: Any, part: slice) -> Any:
    return {name: _slice(each, part) for name, each in value.items()} if isinstance(value, Mapping) else value[part]


def _memory(gpu: bool, device: torch.device) -> int | None:
    if not gpu:
        return memory_limit()
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
