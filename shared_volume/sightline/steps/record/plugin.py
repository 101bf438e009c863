"""The recipe's own pre-processing: one function in one file, through which every image and its annotations go.

    def transform(image, annotations, **arguments):
        return image, annotations

`image` is (height, width, 3) uint8, red green blue, upright. `annotations` is a list of dictionaries: `label`, `bbox`
([x, y, width, height] in pixels), `segmentation` (COCO: polygons as flat lists, or a run-length encoding with `size`
and `counts`) and `iscrowd` (0 or 1). What comes back is checked as any input is (`returned.py`). None instead of the two
leaves the image out.
"""

import hashlib
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from sightline.annotations.findings import Code, Finding, Policy
from sightline.annotations.instances import DatasetImage, Instance
from sightline.annotations.recipe import Plugin, Recipe
from sightline.errors import SightlineError, nearest
from sightline.images.files import read_image
from sightline.processes.progress import Progress
from sightline.services.versioning.shards import PackedImage
from sightline.steps.record.returned import RefusedError, check_returned

TRACEBACK_LINES: Final = 4


class PluginError(SightlineError):
    """A plug-in that cannot be used, or what it returned."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plug-in ready to be called."""

    name: str  # file and function, for messages
    call: Callable[[np.ndarray, list[dict[str, Any]]], Any]  # its other arguments are already given
    sha256: str  # of the file that was loaded, in hex
    explain: Callable[[BaseException], str]  # says where and what it raised


def load_plugin(folder: Path | None, wanted: Plugin, shown_as: Path | None = None) -> LoadedPlugin:
    """Load a plug-in from the category's folder in the step's frozen code, and from nowhere else.

    Messages call the folder `shown_as`, where its own path says nothing to a user. A PluginError for no such folder, file or
    function, a link that leads out of the folder, or an error while loading.
    """
    if folder is None:
        raise PluginError(f"The recipe names the plug-in {wanted.file}, but there is no folder of the category.")
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
    explain = partial(_last_lines, folder=folder, shown=shown)
    source = path.read_bytes()
    module = ModuleType(f"sightline_plugin_{path.stem}")
    module.__file__ = str(path)
    try:
        # Compiled from the very bytes that the digest is of; nothing is written beside them.
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except (Exception, SystemExit) as error:
        raise PluginError(f"{name}: cannot be loaded from {shown}: {explain(error)}") from error
    function = getattr(module, wanted.function, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise PluginError(
            f"{shown / wanted.file}: it has no function {wanted.function!r}.{nearest(wanted.function, known)} "
            "Define it, or correct plugin.function in the recipe."
        )
    return LoadedPlugin(name, partial(function, **wanted.arguments), hashlib.sha256(source).hexdigest(), explain)


def transform_image(
    plugin: LoadedPlugin, image: DatasetImage, path: Path, recipe: Recipe, seed: str
) -> tuple[DatasetImage | None, np.ndarray | None]:
    """Hand one image to the plug-in; `seed` sets `random` and `numpy.random` before, so that chance is the same everywhere.

    Returns the image with the annotations that came back (None: left out), and its new pixels, (height, width, 3) RGB
    (None: they are what they were). PluginError when the plug-in raised, or what it returned cannot be used.
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
        raise PluginError(f"{where}: {plugin.explain(error)}") from error
    if returned is None:
        return None, None
    try:
        new_pixels, instances = check_returned(returned, recipe)
    except RefusedError as refused:
        raise PluginError(f"{where}: {refused} Correct the plug-in.") from None
    height, width = new_pixels.shape[:2]
    transformed = replace(image, width=width, height=height, instances=instances)
    return transformed, None if np.array_equal(new_pixels, pixels) else new_pixels


def transform_images(
    plugin: LoadedPlugin,
    images: Sequence[DatasetImage],
    annotation_dir: Path,
    scratch: Path,
    recipe: Recipe,
    digests: Mapping[str, PackedImage],
    keep: Callable[[Sequence[Instance]], Sequence[Instance]] = tuple,
) -> tuple[list[DatasetImage], list[Finding], dict[str, Path]]:
    """Hand every image to the plug-in. Changed pixels are written to `scratch` as PNG, which loses nothing.

    Returns the images that are left, findings on the others, and the new files of those whose pixels changed, by the name
    in the dataset. `digests` are the sources', and `keep` puts what came back where it is to stay. Raises like `transform_image`.
    """
    from PIL import Image

    left: list[DatasetImage] = []
    findings: list[Finding] = []
    files: dict[str, Path] = {}
    policy = Policy.of(recipe.policy)
    taken = {image.name for image in images}
    progress = Progress(len(images))
    for index, image in enumerate(images, start=1):
        seed = f"{recipe.seed}:{digests[image.source].sha256}"
        changed, pixels = transform_image(plugin, image, annotation_dir / image.source, recipe, seed)
        if changed is None:
            message = f"{plugin.name} returned None for {image.source}."
            findings.append(policy.finding(Code.LEFT_OUT_BY_PLUGIN, image.file, None, message))
            continue
        if pixels is not None:
            changed = replace(changed, name=_png_name(image.name, taken))
            path = scratch / changed.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, "PNG")  # the same pixels give the same bytes
            files[changed.name] = path
        left.append(replace(changed, instances=keep(changed.instances)))
        progress.report(index)
    return left, findings, files


def _png_name(name: str, taken: set[str]) -> str:
    """A name that says PNG and that no other image has."""
    if name.lower().endswith(".png"):
        return name
    while name in taken:
        name += ".png"
    taken.add(name)
    return name


def _last_lines(error: BaseException, folder: Path, shown: Path) -> str:
    """Where and what was raised; files in `folder` are shown as in the other."""
    lines = "".join(traceback.format_exception(error)).replace(str(folder), str(shown)).strip().splitlines()
    return "it raised\n" + "\n".join(lines[-TRACEBACK_LINES:])


def _hand_in(instance: Instance) -> dict[str, Any]:
    segmentation = instance.region.segmentation()
    return {
        "label": instance.label,
        "bbox": list(instance.region.box),
        "segmentation": dict(segmentation) if isinstance(segmentation, dict) else segmentation,
        "iscrowd": int(instance.crowd),
    }
