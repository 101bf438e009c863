"""Testing itself: what a model finds on images, drawn, as COCO results, and how long it takes."""

import json
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import SightlineError
from sightline.images.files import read_image
from sightline.images.limits import IMAGE_SUFFIXES
from sightline.models.store import fetch_bundle, given_model
from sightline.processes.devices import choose_device
from sightline.processes.folders import private_folder
from sightline.processes.progress import Progress
from sightline.services.runs.running_step import open_step, results_prefix
from sightline.services.storage.access import fetch, open_storage
from sightline.services.versioning.datasets import pull_dataset
from sightline.settings import Settings, read_settings
from sightline.steps.testing.draw import FORMATS, draw_predictions
from sightline.steps.testing.report import TestedImage, render_test_report
from sightline.steps.testing.request import Tested, TestRequest
from sightline.tasks.task import Predictor, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TestImages:
    """Images to test on; names are relative to the folder."""

    folder: Path
    names: tuple[str, ...]
    described_as: str


def test(request: TestRequest) -> Tested:
    """Test as `test_model` was asked to, in a process that may be killed."""
    settings = read_settings()
    with open_step(settings, "test", request.code, request.category, watched=True) as step:
        model = request.model or given_model(settings, request.model_uri, request.category)
        if model is None:
            raise SightlineError("There is no model to test. Give a bundle's URI.")
        task = Task(model.task)
        with private_folder(settings.volume / "work", "test-") as private:
            chosen = _images(settings, request, private)
            folder, bundle = fetch_bundle(settings, model.uri, model.sha256)
            predictor = task.predict.load_predictor(folder, str(choose_device(request.device)), bundle.sha256)
            tested = _run(task, predictor, chosen, private / "drawn", request.score_threshold)
            storage = open_storage(settings.storage)
            prefix = f"{results_prefix(request.category, model.dataset_version or 'given', step.run)}/test"
            storage.upload_folder(private / "drawn", f"{prefix}/images")
            storage.write_bytes(f"{prefix}/predictions.json", _predictions(tested, predictor.classes))
            facts = {
                "task": model.task,
                "category": model.category,
                "images": chosen.described_as,
                "model": model.sha256[:12],
                "run": step.run,
                "code": request.code,
            }
            report = render_test_report(task, tested, predictor.classes, facts, request.score_threshold)
            storage.write_bytes(f"{prefix}/report.html", report.encode())
    median = statistics.median(image.milliseconds for image in tested)
    log.info("%d images, %.1f ms each", len(tested), median)
    reference = {
        "predictions": storage.uri(f"{prefix}/predictions.json"),
        "drawn": storage.uri(f"{prefix}/images"),
        "images": len(tested),
        "milliseconds_per_image": round(median, 2),
        "model_sha256": model.sha256,
    }
    return Tested(reference, report)


def _images(settings: Settings, request: TestRequest, private: Path) -> TestImages:
    if images := request.images:
        folder = fetch(images, private / "images")
        if folder.is_file():
            raise SightlineError(f"{images} is a single file. Give the folder or prefix that holds the images.")
        names = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
        )
        if not names:
            raise SightlineError(f"There is no image below {images} ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        return TestImages(folder, tuple(names), images)
    dataset = request.dataset
    if dataset is None:
        raise SightlineError("There are no test images. Give a dataset version, or a folder or prefix of images.")
    dataset_dir = pull_dataset(settings, dataset)
    names = [image["file_name"] for image in json.loads((dataset_dir / "test.json").read_text())["images"]]
    if not names:
        raise SightlineError(
            f"The test split of {dataset.category} {dataset.version} has no images. Give it a share in the category's "
            "recipe, or give a folder of images."
        )
    return TestImages(dataset_dir / "images", tuple(names), f"{dataset.category} {dataset.version}, test split")


def _run(
    task: Task, predictor: Predictor, images: TestImages, drawn: Path, score_threshold: float
) -> list[TestedImage]:
    tested = []
    progress = Progress(len(images.names))
    # The first image takes several times as long as the others; it would be counted as the model's speed.
    predictor.results(read_image(images.folder / images.names[0]), 0)
    for number, name in enumerate(images.names, start=1):
        path = images.folder / name
        pixels = read_image(path)
        began = time.perf_counter()
        results = predictor.results(pixels, number)
        milliseconds = (time.perf_counter() - began) * 1000
        # Formats that drawings are not written in become PNG, beside the file's own ending.
        target = drawn / (name if path.suffix.lower() in FORMATS else f"{name}.png")
        draw_predictions(task, path, results, predictor.classes, target, score_threshold)
        tested.append(TestedImage(name, path, results, milliseconds))
        progress.report(number)
    return tested


def _predictions(tested: Sequence[TestedImage], classes: Sequence[str]) -> bytes:
    """As COCO's three lists, the results being the annotations."""
    predictions = {
        "images": [{"id": number, "file_name": image.name} for number, image in enumerate(tested, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
        "annotations": [result for image in tested for result in image.results],
    }
    return json.dumps(predictions).encode()
