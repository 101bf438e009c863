"""Testing itself: what a model finds on images, drawn, as COCO results, and how long it takes."""

import json
import logging
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.datasets import pull_dataset
from sightline.detections import to_coco_results
from sightline.detectors.inference import Detector, load_detector
from sightline.detectors.registry import register
from sightline.devices import choose_device
from sightline.errors import SightlineError
from sightline.images import IMAGE_SUFFIXES, read_image
from sightline.models import fetch_bundle
from sightline.progress import Progress
from sightline.references import DatasetReference, ModelReference
from sightline.settings import Settings, settings
from sightline.step_record import record_step, results_prefix
from sightline.storage import fetch, open_storage
from sightline.test.draw import draw_predictions
from sightline.test.report import TestedImage, render_test_report
from sightline.workplaces import private_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TestImages:
    """Images to test on; names are relative to the folder."""

    folder: Path
    names: tuple[str, ...]
    described_as: str


def test(given: Mapping[str, Any]) -> dict[str, Any]:
    """Test as `test_model` was asked to, in a process that may be killed.

    Args:
        given: its arguments, references as JSON.

    Returns:
        `reference` and `report`.
    """
    place, code, category = settings(), given["code"], given["category"]
    with record_step(place, "test", code, category, watched=True) as step:
        if given["model"] is None:
            raise SightlineError("There is no model to test. Name a bundle's URI.")
        model = ModelReference.from_json(given["model"])
        dataset = DatasetReference.from_json(given["dataset"]) if given["dataset"] else None
        threshold = given["score_threshold"]
        register()
        with private_folder(place.volume / "work", "test-") as private:
            chosen = _images(place, dataset, given["images"], private)
            folder, bundle = fetch_bundle(place, model.uri, model.sha256)
            detector = load_detector(folder, str(choose_device(given["device"])), bundle.sha256)
            tested = _run(detector, chosen, private / "drawn", threshold)
            prefix = f"{results_prefix(category, model.dataset_version or 'given', step.run)}/test"
            return _deliver(place, prefix, model, detector, chosen, tested, private, threshold, code, step.run)


def _images(place: Settings, dataset: DatasetReference | None, images: str, private: Path) -> TestImages:
    if images:
        folder = fetch(images, private / "images")
        if folder.is_file():
            raise SightlineError(f"{images} is a single file. Name the folder or prefix that holds the images.")
        names = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
        )
        if not names:
            raise SightlineError(f"There is no image below {images} ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        return TestImages(folder, tuple(names), images)
    if dataset is None:
        raise SightlineError("There are no test images. Name a dataset version, or a folder or prefix of images.")
    dataset_dir = pull_dataset(place, dataset)
    names = [image["file_name"] for image in json.loads((dataset_dir / "test.json").read_text())["images"]]
    if not names:
        raise SightlineError(
            f"The test split of {dataset.category} {dataset.version} has no images. Give it a share in the category's "
            "recipe, or name a folder of images."
        )
    return TestImages(dataset_dir / "images", tuple(names), f"{dataset.category} {dataset.version}, test split")


def _run(detector: Detector, images: TestImages, drawn: Path, score_threshold: float) -> list[TestedImage]:
    tested = []
    progress = Progress(len(images.names))
    # The first image takes several times as long as the others; it would be counted as the model's speed.
    detector.predict([read_image(images.folder / images.names[0])])
    for number, name in enumerate(images.names, start=1):
        path = images.folder / name
        pixels = read_image(path)
        began = time.perf_counter()
        (found,) = detector.predict([pixels])
        milliseconds = (time.perf_counter() - began) * 1000
        results = to_coco_results(found, number)
        draw_predictions(path, results, detector.classes, drawn / name, score_threshold)
        tested.append(TestedImage(name, path, results, milliseconds))
        progress.report(number)
    return tested


def _deliver(
    place: Settings,
    prefix: str,
    model: ModelReference,
    detector: Detector,
    images: TestImages,
    tested: list[TestedImage],
    private: Path,
    score_threshold: float,
    code: str,
    run: str,
) -> dict[str, Any]:
    storage = open_storage(place.storage)
    storage.upload_folder(private / "drawn", f"{prefix}/images")
    predictions = {
        "images": [{"id": number, "file_name": image.name} for number, image in enumerate(tested, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(detector.classes, start=1)],
        "annotations": [result for image in tested for result in image.results],
    }
    storage.write_bytes(f"{prefix}/predictions.json", json.dumps(predictions).encode())
    times = [image.milliseconds for image in tested]
    facts = {
        "category": model.category,
        "images": images.described_as,
        "model": model.sha256[:12],
        "run": run,
        "code": code,
    }
    report = render_test_report(tested, detector.classes, facts, score_threshold)
    storage.write_bytes(f"{prefix}/report.html", report.encode())
    log.info("%d images, %.1f ms each", len(tested), statistics.median(times))
    reference = {
        "predictions": storage.uri(f"{prefix}/predictions.json"),
        "drawn": storage.uri(f"{prefix}/images"),
        "images": len(tested),
        "milliseconds_per_image": round(statistics.median(times), 2),
        "model_sha256": model.sha256,
    }
    return {"reference": reference, "report": report}
