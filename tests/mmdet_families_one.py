"""Tries one config of mmdet's package as a run would use it, at a tiny size: one training step, a validation, a bundle, predictions.

What is called is what the train step and the predictor call, so that a config that works here works in a run.
"""

import json
import re
import resource
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from mmengine.config import Config

from sightline.errors import ConfigError, SightlineError
from sightline.images.files import read_image
from sightline.models.config import config_from_data, load_config, set_epochs
from sightline.models.config_files import check_config
from sightline.models.config_keys import dicts_within
from sightline.models.mmdet_index import PREFIX
from sightline.models.shipped import config_path
from sightline.models.weights.configured import settle
from sightline.processes.lifetime import die_with_direct_parent
from sightline.references import DETECTION
from sightline.steps.train.compute import fit
from sightline.steps.train.fit import _moments, _write_bundle
from sightline.steps.train.loop import Training
from sightline.tasks.detection.fit import register
from sightline.tasks.detection.ops import MissingOpError
from sightline.tasks.task import Task

CODE: Final = Path(__file__).resolve().parents[1] / "shared_volume"
CLASSES: Final = ("cup", "pen", "key")
IMAGES: Final = 4
SIDE: Final = 128  # pixels, of an image and of what the pipelines make of it
LARGE: Final = 64  # a side that is longer than this is an image's, not a margin's
SIZES: Final = ("scale", "scales", "img_scale", "crop_size", "size", "input_size", "random_size_range")
RATE: Final = 1e-6  # of learning: with random weights a config's own can be too much
COUNTS: Final = ("nms_pre", "max_per_img", "num")
MOST_BOXES: Final = 100  # that a stage hands on to the next, or learns from
MOST_QUERIES: Final = 300  # of a transformer, with images of that side
MEMORY: Final = 9 * 2**30  # bytes that one try may take
MOST_READ: Final = 12  # configs of a family that are read until one is found that Sightline does not refuse

NO_DATA: Final = "dataset versions have no"  # how Sightline refuses what learns from other than boxes and masks
WORKS, OPERATOR, PACKAGE, REFUSED, FAILED = "works", "operator", "package", "refused", "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a family's try."""

    config: str  # its name in mmdet's package, with the folder
    state: str
    reason: str = ""  # the operator, the package, or a sentence
    where: str = ""  # the last lines of the traceback, for whoever mends it
    seconds: float = 0.0
    found: int = 0  # predictions that were compared


def try_first_fitting(configs: Sequence[str], folder: Path) -> Outcome:
    """Try the first of a family's configs that Sightline reads; where it reads none, the refusal that says most."""
    refusals = []
    for name in configs[:MOST_READ]:
        try:
            config = read_tiny(name)
        except ConfigError as error:
            refusals.append(Outcome(name, REFUSED, _sentence(error, name)))
            continue
        return try_config(name, config, folder)
    return next((each for each in refusals if NO_DATA in each.reason), refusals[0])


def try_config(name: str, config: Config, folder: Path) -> Outcome:
    """Train one step of a tiny model, pack it, and see that what is read back finds the same."""
    began = time.monotonic()
    try:
        found = _use(name, config, folder)
    except Exception as error:
        state, reason = _kind(error, name)
        where = "".join(traceback.format_exception(error)[-8:])
        return Outcome(name, state, reason, where, time.monotonic() - began)
    return Outcome(name, WORKS, seconds=time.monotonic() - began, found=found)


def read_tiny(name: str) -> Config:
    """A config as train reads it with `--epochs 1`, without files of weights, its images and batches small.

    Raises:
        ConfigError: Sightline refuses it.
    """
    whole = f"{PREFIX}{name}"
    check_config(CODE, whole, DETECTION, {})
    config = load_config(config_path(CODE, whole), {}, CLASSES)
    settle(whole, config, given=True)
    set_epochs(config, 1)
    values = config.to_dict() | {"train_batch_size": IMAGES // 2, "num_workers": 0}
    values["optim_wrapper"]["optimizer"]["lr"] = RATE
    make_small(values)
    return config_from_data(values)


def make_small(values: dict[str, Any]) -> None:
    """Small images, few boxes at a time, one pass through the data, and predictions of whatever score, for an untrained model is
    sure of nothing; in place.
    """
    model = values["model"]
    for node in _dicts([model.get("train_cfg"), model.get("test_cfg")]):
        for key in COUNTS:
            if isinstance(node.get(key), int):
                node[key] = min(node[key], MOST_BOXES)
        if "score_thr" in node:
            node["score_thr"] = 0.0
    for node in _dicts(values.get("train_dataset_wrapper")):
        if "times" in node:
            node["times"] = 1
    if not any("input_size" in node for node in _dicts(model)):  # such a model is made for one size
        _shrink_images(values)


def _shrink_images(values: dict[str, Any]) -> None:
    queries = max((int(node.get("num_queries") or 0) for node in _dicts(values["model"])), default=0)
    side = SIDE if queries <= MOST_QUERIES else 2 * SIDE  # each query takes a place of the image
    parts = [values.get(part) for part in ("train_pipeline", "test_pipeline", "train_dataset_wrapper", "custom_hooks")]
    for node in _dicts([*parts, values["model"].get("data_preprocessor")]):
        for key in SIZES:
            if key in node:
                node[key] = _smaller(node[key], side)


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [node for _, node in dicts_within(values)]


def _smaller(value: Any, side: int) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return side if value > LARGE else value
    if isinstance(value, list | tuple):
        return type(value)(_smaller(each, side) for each in value)
    return value


def _use(name: str, config: Config, folder: Path) -> int:
    dataset = write_dataset(folder / "dataset")
    task = Task(DETECTION)
    work = folder / "work"
    device = torch.device("cpu")
    training = Training(task, config, dataset, CLASSES, work, task.facts.SELECT_BY, device, config.train_batch_size)
    loop, _ = fit(training)
    (_, weights) = _moments(training, loop)["last"]
    bundle = folder / "bundle"
    _write_bundle(bundle, training, loop.runner.model, weights, {"task": DETECTION, "config": name})
    image = read_image(dataset / "images" / "2.png")
    trained = task.predict.predictor_of(loop.runner.model, training.config, CLASSES)
    read_back = task.predict.load_predictor(bundle, "cpu", None)
    before, after = (predictor.results(image, 1) for predictor in (trained, read_back))
    if before != after:
        raise AssertionError(f"the model that was read back finds {len(after)} objects, and before {len(before)}")
    if not after:
        _require_same_output(trained.model, read_back.model)
        _require_suppression(config)
    return len(after)


def _require_same_output(first: Any, second: Any) -> None:
    """Of models that find nothing, which untrained ones may, the features from which they look must be the same."""
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        outputs = [list(_tensors(model.extract_feat(image))) for model in (first, second)]
    if not outputs[0] or not all(_same(*pair) for pair in zip(*outputs, strict=True)):
        raise AssertionError("the model that was read back computes something else than before")


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(each)


def _require_suppression(config: Config) -> None:
    """Of a model that finds nothing, so that nothing was suppressed, call the operator that would suppress."""
    from mmcv.ops import batched_nms  # after what it lacks was supplied

    boxes, scores = torch.tensor([[0.0, 0, 9, 9], [1, 0, 9, 9]]), torch.tensor([0.9, 0.8])
    for _, node in dicts_within(config.to_dict()["model"].get("test_cfg")):
        if isinstance(node.get("nms"), dict):
            batched_nms(boxes, scores, torch.zeros(2), dict(node["nms"]))


def write_dataset(folder: Path) -> Path:
    """A dataset version's folder: a few images with two objects each, which train and validate."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, IMAGES + 1):
        pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for label, (left, top, right, bottom) in enumerate(((10, 15, 60, 70), (64, 40, 120, 110)), 1):
            cv2.rectangle(pixels, (left, top), (right, bottom), (250 * (label == 1), 30, 250 * (label == 2)), -1)
            outline = [float(each) for each in (left, top, right, top, right, bottom, left, bottom)]
            box = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label, "iscrowd": 0}
                | {"bbox": box, "area": box[2] * box[3], "segmentation": [outline]}
            )
        cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    for split, part in (("train", images[: IMAGES // 2]), ("val", images[IMAGES // 2 :])):
        ids = {each["id"] for each in part}
        truth = {
            "images": part,
            "annotations": [each for each in annotations if each["image_id"] in ids],
            "categories": categories,
        }
        (folder / f"{split}.json").write_text(json.dumps(truth))
    return folder


def _kind(error: Exception, name: str) -> tuple[str, str]:
    """What an error means for a user, and its reason in words."""
    chain = list(_chain(error))
    text = "\n".join(str(each) for each in chain)
    for each in chain:
        if isinstance(each, MissingOpError) and (named := re.search(r"The operator '(\w+)'", str(each))):
            return OPERATOR, named[1]
    for each in chain:
        if isinstance(each, ModuleNotFoundError) and each.name:
            return PACKAGE, each.name.partition(".")[0]
    if named := re.search(
        r"[Nn]o module named '(\w+)|(\w+) is not installed|[Pp]lease (?:run )?.*install ([\w-]+)", text
    ):
        return PACKAGE, named[1] or named[2] or named[3]
    if isinstance(error, SightlineError) and not error.__cause__:
        return REFUSED, _sentence(error, name)
    return FAILED, f"{type(chain[-1]).__name__}: {' '.join(str(chain[-1]).split())[:300]}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(error: Exception, name: str) -> str:
    """An error without the config's name and its place, which is another on each machine."""
    text = re.sub(r"\S*/\.mim/configs/", "", " ".join(str(error).split()))
    return text.replace(f"{PREFIX}{name}", name).removeprefix(f"{name}.py: ")


def prepare() -> None:
    """Import and register all that tries share, once."""
    register()


def limit_memory() -> None:
    """Let a try that grows too large fail by itself."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def run_and_write(configs: Sequence[str], folder: Path, result: Path) -> None:
    """A child's whole work: its outcome as JSON in a file."""
    die_with_direct_parent()
    limit_memory()
    torch.set_num_threads(1)
    outcome = try_first_fitting(configs, folder)
    result.write_text(json.dumps(asdict(outcome)))


def as_outcome(values: Mapping[str, Any]) -> Outcome:
    """An outcome from its JSON."""
    return Outcome(**values)
