"""The recipe's own pre-processing: one function in one file, through which every image and its annotations go.

    def transform(image, annotations, **arguments):
        return image, annotations

`image` is (height, width, 3) uint8, red green blue, upright. `annotations` is a list of dictionaries: `label`, `bbox`
([x, y, width, height] in pixels), `segmentation` (COCO: polygons as flat lists, or a run-length encoding with `size`
and `counts`) and `iscrowd` (0 or 1). What comes back is checked as any input is. None instead of the two leaves the
image out.
"""

import hashlib
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from sightline.annotations.findings import Code, Finding, Policy
from sightline.annotations.instances import DatasetImage, Instance
from sightline.annotations.recipe import Plugin, Recipe
from sightline.annotations.regions import Region, encode_region, parse_runs, polygon_area, polygon_region, runs_region
from sightline.errors import SightlineError, nearest
from sightline.images.files import read_image
from sightline.images.limits import MAX_PIXELS
from sightline.processes.progress import Progress

KEYS: Final = ("label", "bbox", "segmentation", "iscrowd")
ROUNDING: Final = 0.01  # pixels past the border that are taken for an inaccuracy of the arithmetic
AGREEMENT: Final = 1.0  # pixels by which a box may differ from its segmentation's
TRACEBACK_LINES: Final = 4


class PluginError(SightlineError):
    """A plug-in that cannot be used, or what it returned."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plug-in ready to be called.

    Attributes:
        name: file and function, for messages.
        call: the function, its arguments but image and annotations already given.
        sha256: of the file that was loaded, in hex.
        folder: the file's.
        shown_as: what messages call the folder.
    """

    name: str
    call: Callable[[np.ndarray, list[dict[str, Any]]], Any]
    sha256: str
    folder: Path
    shown_as: Path


def load_plugin(folder: Path, wanted: Plugin, shown_as: Path | None = None) -> LoadedPlugin:
    """Load a plug-in from the category's folder in the step's frozen code, and from nowhere else.

    Args:
        folder: the category's.
        wanted: as the recipe names it.
        shown_as: what messages call the folder, where its own path says nothing to a user.

    Raises:
        PluginError: no such file or function, a link that leads out of the folder, or an error while loading.
    """
    path, shown = folder / wanted.file, shown_as or folder
    name = f"plug-in {wanted.file}, {wanted.function}"
    if not path.is_file():
        known = [one.name for one in folder.glob("*.py")] if folder.is_dir() else []
        raise PluginError(
            f"{shown / wanted.file}: there is no such plug-in.{nearest(wanted.file, known)} Put it there."
        )
    if path.resolve().parent != folder.resolve():
        raise PluginError(
            f"{shown / wanted.file}: the plug-in is a link that leads out of its folder. Put the file itself there."
        )
    source = path.read_bytes()
    module = ModuleType(f"sightline_plugin_{path.stem}")
    module.__file__ = str(path)
    try:
        # Compiled from the very bytes that the digest is of; nothing is written beside them.
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except (Exception, SystemExit) as error:
        raise PluginError(f"{name}: cannot be loaded from {shown}: {_last_lines(error, folder, shown)}") from error
    function = getattr(module, wanted.function, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise PluginError(
            f"{shown / wanted.file}: it has no function {wanted.function!r}.{nearest(wanted.function, known)} "
            "Define it, or correct plugin.function in the recipe."
        )
    arguments = dict(wanted.arguments)
    return LoadedPlugin(
        name,
        lambda image, annotations: function(image, annotations, **arguments),
        hashlib.sha256(source).hexdigest(),
        folder,
        shown,
    )


def transform_image(
    plugin: LoadedPlugin, image: DatasetImage, path: Path, recipe: Recipe, seed: str
) -> tuple[DatasetImage | None, np.ndarray | None]:
    """Hand one image to the plug-in.

    Args:
        plugin: as loaded.
        image: with the annotations to hand in.
        path: its file.
        recipe: says which labels are wanted.
        seed: sets `random` and `numpy.random` before the call, so that chance is the same on every machine.

    Returns:
        The image with the annotations that came back (None: left out), and its new pixels, (height, width, 3) RGB (None:
        they are what they were).

    Raises:
        PluginError: the plug-in raised, or what it returned cannot be used.
    """
    pixels = np.ascontiguousarray(read_image(path)[:, :, ::-1])
    handed = [_hand_in(instance) for instance in image.instances]
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # what a plug-in's author is most likely to call
    where = f"{plugin.name}, image {image.source}"
    try:
        returned = plugin.call(pixels.copy(), handed)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{where}: {_last_lines(error, plugin.folder, plugin.shown_as)}") from error
    if returned is None:
        return None, None
    try:
        new_pixels, annotations = _take_apart(returned)
        height, width = new_pixels.shape[:2]
        instances = [_instance(index, one, width, height, recipe) for index, one in enumerate(annotations)]
    except _Refused as refused:
        raise PluginError(f"{where}: {refused} Correct the plug-in.") from None
    changed = not np.array_equal(new_pixels, pixels)
    transformed = replace(image, width=width, height=height, instances=tuple(instances))
    return transformed, new_pixels if changed else None


@dataclass(frozen=True, slots=True)
class Transformed:
    """What the plug-in made of a dataset's images.

    Attributes:
        images: those that are left.
        findings: images that it left out.
        files: name in the dataset -> the new file of an image whose pixels changed.
        plugin_sha256: of the plug-in's file; None without a plug-in.
    """

    images: list[DatasetImage]
    findings: list[Finding]
    files: dict[str, Path]
    plugin_sha256: str | None


def transform_images(
    images: Sequence[DatasetImage],
    annotation_dir: Path,
    scratch: Path,
    recipe: Recipe,
    recipe_folder: Path | None,
    digests: Mapping[str, str],
    shown_as: Path | None = None,
) -> Transformed:
    """Hand every image to the recipe's plug-in, if it names one. Changed pixels are written as PNG, which loses nothing.

    Args:
        images: with the annotations to hand in.
        annotation_dir: where their files lie.
        scratch: an empty folder for the new files.
        recipe: names the plug-in.
        recipe_folder: the category's folder in the step's frozen code.
        digests: source of an image -> sha256.
        shown_as: what messages call the category's folder.

    Raises:
        PluginError: it cannot be loaded, raised, or returned what cannot be used.
    """
    if recipe.plugin is None:
        return Transformed(list(images), [], {}, None)
    if recipe_folder is None:
        raise PluginError(f"The recipe names the plug-in {recipe.plugin.file}, but there is no folder of the category.")
    plugin = load_plugin(recipe_folder, recipe.plugin, shown_as)
    done = Transformed([], [], {}, plugin.sha256)
    taken = {image.name for image in images}
    progress = Progress(len(images))
    for index, image in enumerate(images, start=1):
        seed = f"{recipe.seed}:{digests[image.source]}"
        changed, pixels = transform_image(plugin, image, annotation_dir / image.source, recipe, seed)
        if changed is None:
            message = f"{plugin.name} returned None for {image.source}."
            finding = Policy.of(recipe.policy).finding(Code.LEFT_OUT_BY_PLUGIN, image.file, None, message)
            done.findings.append(finding)
            continue
        if pixels is not None:
            changed = replace(changed, name=_png_name(image.name, taken))
            done.files[changed.name] = scratch / changed.name
            write_pixels(scratch / changed.name, pixels)
        done.images.append(changed)
        progress.report(index)
    return done


def _png_name(name: str, taken: set[str]) -> str:
    """A name that says PNG and that no other image has."""
    if name.lower().endswith(".png"):
        return name
    while name in taken:
        name += ".png"
    taken.add(name)
    return name


def write_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write (height, width, 3) RGB pixels as PNG; same pixels, same bytes."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")


class _Refused(Exception):  # noqa: N818  # control flow within this file, not an error
    """What is wrong with what a plug-in returned."""


def _last_lines(error: BaseException, folder: Path, shown: Path) -> str:
    """Where and what was raised; files in `folder` are shown as in the other."""
    told = "".join(traceback.format_exception(error)).replace(str(folder), str(shown))
    lines = told.strip().splitlines()
    return "it raised\n" + "\n".join(lines[-TRACEBACK_LINES:])


def _hand_in(instance: Instance) -> dict[str, Any]:
    segmentation = instance.region.segmentation()
    return {
        "label": instance.label,
        "bbox": list(instance.region.box),
        "segmentation": dict(segmentation) if isinstance(segmentation, dict) else segmentation,
        "iscrowd": int(instance.crowd),
    }


def _take_apart(returned: Any) -> tuple[np.ndarray, Sequence[Any]]:
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _Refused(f"it returned {type(returned).__name__}, not (image, annotations) or None.")
    pixels, annotations = returned
    if not isinstance(pixels, np.ndarray):
        raise _Refused(f"the image it returned is {type(pixels).__name__}, not a numpy array.")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        found = f"{' x '.join(map(str, pixels.shape))} of {pixels.dtype}"
        raise _Refused(f"the image it returned is {found}, not height x width x 3 of uint8.")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise _Refused(f"the image it returned has more than {MAX_PIXELS:,} pixels.")
    if not isinstance(annotations, list | tuple):
        raise _Refused(f"the annotations it returned are {type(annotations).__name__}, not a list.")
    return pixels, annotations


def _instance(index: int, annotation: Any, width: int, height: int, recipe: Recipe) -> Instance:
    try:
        if not isinstance(annotation, Mapping):
            raise _Refused(f"it is {type(annotation).__name__}, not a dictionary.")
        strange = [key for key in annotation if key not in KEYS]
        if strange:
            raise _Refused(f"it has a key {strange[0]!r}.{nearest(str(strange[0]), KEYS)}")
        label = _label(annotation.get("label"), recipe)
        crowd = annotation.get("iscrowd", 0)
        if not isinstance(crowd, int | np.integer | np.bool_) or crowd not in (0, 1):
            raise _Refused(f"iscrowd is {crowd!r}, not 0 or 1.")
        region = _region(annotation.get("bbox"), annotation.get("segmentation"), width, height)
    except _Refused as refused:
        raise _Refused(f"annotation {index} of those it returned: {refused}") from None
    return Instance(label, encode_region(region, width, height) if crowd else region, bool(crowd), None)


def _label(label: Any, recipe: Recipe) -> str:
    if not isinstance(label, str) or not label.strip():
        raise _Refused(f"its label is {label!r}, not text.")
    if not recipe.wants(label):
        raise _Refused(f"its label {label!r} is not among the recipe's.{nearest(label, recipe.chosen_labels())}")
    return label


def _region(bbox: Any, segmentation: Any, width: int, height: int) -> Region:
    """The segmentation decides; without one the box does. Where both are given they have to agree."""
    box = None if bbox is None else _numbers(bbox, "bbox", 4)
    if segmentation is None or (isinstance(segmentation, list | tuple) and not segmentation):
        if box is None:
            raise _Refused("it has neither bbox nor segmentation.")
        x, y, wide, high = box.tolist()
        corners = np.array([[x, y], [x + wide, y], [x + wide, y + high], [x, y + high]])
        if wide <= 0 or high <= 0:
            raise _Refused(f"its bbox {_shown(box)} has no area.")
        return polygon_region([_inside(corners, "bbox", width, height)])
    if isinstance(segmentation, Mapping):
        region = _run_length(segmentation, width, height)
    else:
        region = polygon_region(_outlines(segmentation, width, height))
    if region.area <= 0:
        raise _Refused("its segmentation has no area.")
    if box is not None and np.abs(_edges(box) - _edges(np.array(region.box))).max() > AGREEMENT:
        raise _Refused(
            f"its bbox {_shown(box)} and its segmentation, whose box is {_shown(np.array(region.box))}, do not agree; "
            "change both, or return one of them."
        )
    return region


def _outlines(segmentation: Any, width: int, height: int) -> list[np.ndarray]:
    if not isinstance(segmentation, list | tuple):
        raise _Refused(f"its segmentation is {type(segmentation).__name__}, not a list of polygons or a dictionary.")
    outlines = []
    for polygon in segmentation:
        flat = _numbers(polygon, "segmentation's polygon")
        if len(flat) < 6 or len(flat) % 2:
            raise _Refused(f"its segmentation has a polygon of {len(flat)} numbers, not of three or more x, y.")
        outline = _inside(flat.reshape(-1, 2), "segmentation", width, height)
        if polygon_area(outline) == 0:
            raise _Refused("its segmentation has a polygon without area.")
        outlines.append(outline)
    return outlines


def _run_length(segmentation: Mapping[str, Any], width: int, height: int) -> Region:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise _Refused(f"its segmentation's size is {size!r}, the image's is [{height}, {width}].")
    try:
        return runs_region(parse_runs(counts, height * width), width, height)
    except (TypeError, ValueError) as error:
        raise _Refused(f"its segmentation's counts cannot be used: {error}.") from None


def _numbers(values: Any, name: str, count: int | None = None) -> np.ndarray:
    try:
        array = np.asarray(values)
        numbers = array.astype(np.float64) if array.dtype.kind in "fiu" else None
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.ndim != 1 or count not in (None, len(numbers)):
        raise _Refused(f"its {name} is {values!r:.80}, not {'a list of' if count is None else count} numbers.")
    if not np.isfinite(numbers).all():
        raise _Refused(f"its {name} {_shown(numbers)} has a number that is not finite.")
    return numbers


def _inside(points: np.ndarray, name: str, width: int, height: int) -> np.ndarray:
    limits = np.array([width, height], dtype=np.float64)
    if (points < -ROUNDING).any() or (points > limits + ROUNDING).any():
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        reach = f"from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        raise _Refused(f"its {name} reaches {reach}, out of the image ({width} x {height}).")
    return np.clip(points, 0.0, limits)


def _edges(box: np.ndarray) -> np.ndarray:
    return np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])


def _shown(numbers: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in numbers.tolist()[:8])}]"
