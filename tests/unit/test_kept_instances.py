"""Memory while a dataset is built: instances lie in a file, splits are written in parts, and nothing of the result changes."""

import os
from pathlib import Path

import numpy as np
import orjson
import pytest

from sightline.annotations.instances import DatasetImage
from sightline.annotations.kept import Instance, InstanceFile
from sightline.annotations.regions import Region, encode_region, polygon_region
from sightline.annotations.truth import TruthFile, write_truth
from sightline.errors import SightlineError
from sightline.steps.record.statistics import join_measures, measure_split
from sightline.steps.record.write import choose_samples
from sightline.tasks.detection.data import truth_of

CLASSES = ("cup", "mug")


def polygon(x: float, points: int = 5) -> Region:
    corners = np.random.default_rng(int(x)).uniform(0, 60, (points, 2))
    return polygon_region([corners + x])


def some_instances(number: int) -> tuple[Instance, ...]:
    two_parts = polygon_region([polygon(number).outlines[0], polygon(number + 7).outlines[0]])
    painted = encode_region(polygon(number + 1), 200, 100)
    return (
        Instance("cup", two_parts, False, 3),
        Instance("mug", painted, True, None),
        Instance("cup", Region((1, 2, 3, 4), 12), False, 0),
    )[: number % 4]


def as_written(instances) -> bytes:
    return orjson.dumps(truth_of([DatasetImage("a", "a", "a.json", 200, 100, instances)], CLASSES))


@pytest.fixture
def file(tmp_path: Path):
    with InstanceFile(tmp_path / "instances") as opened:
        yield opened


def test_kept_instances_are_what_they_were_to_the_bit(file):
    kept = [(file.keep(some_instances(number)), some_instances(number)) for number in range(12)]
    for back, given in kept:
        assert as_written(back) == as_written(given)
        assert [(one.label, one.crowd, one.shape_index) for one in back] == [
            (one.label, one.crowd, one.shape_index) for one in given
        ]
        assert len(back) == len(given)
        assert DatasetImage("a", "a", "a.json", 1, 1, back).labels == tuple(one.label for one in given)
        assert file.keep(back) is back


def test_numbers_of_numpy_come_back_as_the_numbers_that_they_are(file):
    box = (np.float64(1.5), np.float64(2), np.float64(0.1), np.float32(0.5))
    one = Instance(np.str_("cup"), Region(box, np.float64(7.25), polygon(3).outlines), np.bool_(True), 1)
    (back,) = file.keep((one,))
    assert back.region.box == (1.5, 2.0, 0.1, 0.5)
    assert [type(value) for value in (*back.region.box, back.region.area)] == [float] * 5
    assert (back.label, back.crowd, back.region.area) == ("cup", True, 7.25)


def test_images_with_the_same_labels_share_them(file):
    first, second = file.keep(some_instances(3)), file.keep(some_instances(7))
    assert first.labels is second.labels


def test_a_full_disk_is_told_with_the_file(file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(SightlineError, match=r"instances cannot be written: No space left on device\. Make room there"):
        file.keep(some_instances(3))


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
@pytest.mark.parametrize("count", [0, 1, 11])
def test_a_split_in_parts_has_the_bytes_of_the_whole(tmp_path, at_once, count):
    images = [DatasetImage(f"{one}.jpg", f"{one}.jpg", "a", 200, 100, some_instances(one)) for one in range(count)]
    write_truth(tmp_path / "whole.json", truth_of(images, CLASSES))
    parts = TruthFile(tmp_path / "parts.json")
    measures, samples = [], []
    for start in range(0, max(count, 1), at_once):
        coco = truth_of(images[start : start + at_once], CLASSES)
        parts.add(coco)
        measures.append(measure_split(coco))
        samples += choose_samples(
            coco, [one - start for one in (0, 3, 10) if start <= one < min(start + at_once, count)]
        )
    parts.close()
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.json", "whole.json"]
    whole = truth_of(images, CLASSES)
    assert samples == choose_samples(whole, [one for one in (0, 3, 10) if one < count])
    joined, measured = join_measures(measures), measure_split(whole)
    for name in ("images", "crowds", "annotations", "objects", "images_with"):
        assert getattr(joined, name) == getattr(measured, name)
    assert {name: values.tolist() for name, values in joined.values.items()} == {
        name: values.tolist() for name, values in measured.values.items()
    }
