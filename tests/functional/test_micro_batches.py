"""A batch in parts: the same step as the whole batch's, and what is kept about it on the volume."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper

from sightline.errors import SightlineError
from sightline.services.runs.supervise import Stopped
from sightline.steps.train import micro_batches
from sightline.steps.train.micro_batches import MicroBatches, halve, read_micro_batches, shown_as_parts, train_in_parts

CPU = torch.device("cpu")
KILLED = Stopped("was killed for memory (limit 4.0 GiB)", worker=False, gpu=False, at=datetime(2026, 1, 1, tzinfo=UTC))


class Line(BaseModel):
    """One weight vector; remembers how many inputs it saw at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -0.25]))
        self.seen: list[int] = []

    def forward(self, inputs, data_samples=None, mode="loss"):
        self.seen.append(len(inputs))
        errors = (torch.stack(list(inputs)) @ self.weight - torch.tensor(data_samples)) ** 2
        return {"loss_line": errors.mean(), "accuracy": errors.detach().max()}


def batch(images: int) -> dict:
    generator = torch.Generator().manual_seed(images)
    inputs = [torch.rand(2, generator=generator) for _ in range(images)]
    return {"inputs": inputs, "data_samples": [float(index) for index in range(images)]}


def trained(images: int, at_a_time: int, batches: int = 2, accumulated: int = 1) -> tuple[Line, dict]:
    model = Line()
    wrapper = OptimWrapper(
        torch.optim.AdamW(model.parameters(), lr=0.1),
        accumulative_counts=accumulated,
        clip_grad={"max_norm": 0.1},
    )
    wrapper.initialize_count_status(model, 0, batches)
    values = {}
    for _ in range(batches):
        if at_a_time >= images:
            values = model.train_step(batch(images), optim_wrapper=wrapper)
        else:
            values = train_in_parts(model, wrapper, batch(images), at_a_time)
    return model, values


@pytest.mark.parametrize("accumulated", [1, 2, 3], ids=lambda count: f"accumulated over {count}")
@pytest.mark.parametrize(("images", "at_a_time"), [(4, 2), (4, 1), (5, 2), (7, 3), (2, 1)])
def test_parts_of_a_batch_make_the_step_that_the_whole_batch_makes(images, at_a_time, accumulated):
    whole, expected = trained(images, images, batches=5, accumulated=accumulated)
    parts, found = trained(images, at_a_time, batches=5, accumulated=accumulated)
    assert torch.allclose(whole.weight, parts.weight, atol=1e-6)
    assert not torch.allclose(whole.weight, Line().weight)
    assert max(parts.seen) == at_a_time and sum(parts.seen) == 5 * images
    assert found.keys() == expected.keys()
    assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)


@pytest.mark.parametrize(
    ("batch_size", "images", "shown"),
    [(4, 4, "4"), (4, 2, "4 as 2 x 2"), (4, 1, "4 as 4 x 1"), (5, 3, "5 as 2 x up to 3"), (16, 8, "16 as 2 x 8")],
)
def test_a_batch_in_parts_is_shown_for_people(batch_size, images, shown):
    assert shown_as_parts(batch_size, images) == shown


def test_parts_are_halved_down_to_one_image(tmp_path):
    found, sizes = None, []
    for _ in range(3):
        found = halve(found, batch=6, workers=0, stopped=KILLED, device=CPU)
        found.write(tmp_path)
        assert read_micro_batches(tmp_path, CPU) == found
        sizes.append(found.images)
    assert sizes == [3, 2, 1]
    with pytest.raises(SightlineError, match=r"even with one image at a time\. Give it more memory \(train_memory\)"):
        halve(found, batch=6, workers=0, stopped=KILLED, device=CPU)


def test_data_loading_processes_are_given_up_before_the_last_image():
    found = halve(None, batch=1, workers=2, stopped=replace(KILLED, worker=True), device=CPU)
    assert (found.images, found.without_workers) == (1, True)
    with pytest.raises(SightlineError, match="one image"):
        halve(found, batch=1, workers=2, stopped=replace(KILLED, worker=True), device=CPU)
    assert halve(MicroBatches(4, True, "", "", False, None), 8, 2, KILLED, CPU).without_workers


@pytest.mark.parametrize(
    ("then", "now", "kept"),
    [(4, 4, True), (4, 2, True), (4, 8, False), (None, 8, True), (4, None, True)],
    ids=["the same memory", "less", "more", "unknown before", "unknown now"],
)
def test_with_more_memory_whole_batches_are_tried_again(tmp_path: Path, monkeypatch, then, now, kept):
    MicroBatches(2, False, "was killed", "2026-01-01T00:00:00", False, then).write(tmp_path)
    monkeypatch.setattr(micro_batches, "memory_limit", lambda: now)
    assert (read_micro_batches(tmp_path, CPU) is not None) is kept
    assert bool(list(tmp_path.iterdir())) is kept
