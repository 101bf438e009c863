"""Testing itself: what a model finds on images, drawn, as COCO results, and how long it takes."""

import json
import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.images.files import read_image
from sightline.images.limits import IMAGE_SUFFIXES
from sightline.models.store import fetch_bundle, given_model
from sightline.processes.devices import choose_device
from sightline.processes.folders import private_folder
from sightline.processes.progress import Progress
from sightline.references import DatasetReference, ModelReference
from sightline.services.runs.running_step import open_step, results_prefix
from sightline.services.storage.access import fetch, open_storage
from sightline.services.versioning.datasets import pull_dataset
from sightline.settings import Settings, read_settings
from sightline.steps.testing.report import FORMATS, TestedImage, draw_predictions, render_test_report
from sightline.tasks.task import Predictor, Task

log = logging.getLogger(__name__)


def test(
    code: str,
    category: str,
    given: ModelReference | str,
    images: DatasetReference | str,
    score_threshold: float,
    device: str,
) -> tuple[dict[str, Any], str]:
    """Test as `test_model` was asked to, in a process that may be killed. Returns the facts, and the report's HTML.

    The model may be a bundle's URI; the images are a folder or a prefix, or the test split of a dataset version.
    """
    settings = read_settings()
    with open_step(settings, "test", code, category, watched=True) as step:
        model = given_model(settings, given, category) if isinstance(given, str) else given
        if model is None:
            raise SightlineError("There is no model to test. Give a bundle's URI.")
        task = Task(model.task)
        with private_folder(settings.volume / "work", "test-") as private:
            image_folder, names, described_as = _images(settings, images, private)
            folder, bundle = fetch_bundle(settings, model.uri, model.sha256)
            predictor = task.predict.load_predictor(folder, str(choose_device(device)), bundle.sha256)
            tested = _run(task, predictor, image_folder, names, private / "drawn", score_threshold)
            storage = open_storage(settings.storage)
            prefix = f"{results_prefix(category, model.dataset_version or 'given', step.run)}/test"
            storage.upload_folder(private / "drawn", f"{prefix}/images")
            storage.write_bytes(f"{prefix}/predictions.json", _predictions(tested, predictor.classes))
            facts = {
                "task": model.task,
                "category": model.category,
                "images": described_as,
                "model": model.sha256[:12],
                "run": step.run,
                "code": code,
            }
            report = render_test_report(task, tested, predictor.classes, facts, score_threshold)
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
    return reference, report


def _images(settings: Settings, images: DatasetReference | str, private: Path) -> tuple[Path, list[str], str]:
    """The folder of the images, their names relative to it, and what they are for people."""
    if isinstance(images, str):
        folder = fetch(images, private / "images")
        if folder.is_file():
            raise SightlineError(f"{images} is a single file. Give the folder or prefix that holds the images.")
        names = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
        )
        if not names:
            raise SightlineError(f"There is no image below {images} ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        return folder, names, images
    dataset_dir = pull_dataset(settings, images)
    names = [image["file_name"] for image in json.loads((dataset_dir / "test.json").read_text())["images"]]
    if not names:
        raise SightlineError(
            f"The test split of {images.category} {images.version} has no images. Give it a share in the category's "
            "recipe, or give a folder of images."
        )
    return dataset_dir / "images", names, f"{images.category} {images.version}, test split"


def _run(
    task: Task, predictor: Predictor, folder: Path, names: Sequence[str], drawn: Path, score_threshold: float
) -> list[TestedImage]:
    tested = []
    progress = Progress(len(names))
    # The first image takes several times as long as the others; it would be counted as the model's speed.
    predictor.results(read_image(folder / names[0]), 0)
    for number, name in enumerate(names, start=1):
        path = folder / name
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
