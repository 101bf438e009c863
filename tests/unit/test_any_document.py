"""Whatever a JSON holds: it becomes COCO that can be used, or a finding; nothing else ever happens."""

import base64
import copy
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from sightline.annotations.findings import ALLOWED, Code, Policy
from sightline.annotations.instances import choose_classes, read_usable
from sightline.annotations.labelme import edit_document
from sightline.annotations.read import Annotated, read_annotations
from sightline.annotations.recipe import Recipe
from sightline.annotations.truth import write_truth
from sightline.errors import SightlineError
from sightline.tasks.detection.data import truth_of

WIDTH, HEIGHT = 48, 32
MANY = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


def as_png(width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width), 255, dtype=np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


MASKS = [as_png(4, 3), as_png(1, 1), as_png(4, 3)[:40], "", "%", "QUJD"]
numbers = st.one_of(
    st.integers(-60, 90),
    st.floats(-60, 90),
    st.sampled_from([0, 48, 32, 47.999999, 1e-9, 1e-300, -0.0, 1e5, 1e6, 1e8, 1e9, -1e9]),
)
odd_numbers = st.one_of(
    st.floats(), st.integers(), st.sampled_from([math.nan, math.inf, -math.inf, 1e300, 10**30, -(10**400), 2**63])
)
texts = st.one_of(
    st.sampled_from(
        ["plug", "switch", "Plug", " plug ", "", " ", "polygon", "mask", "a.png", "..\\a.png", "/etc/passwd"]
    ),
    st.text(max_size=8),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
points = st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=9)
shapes = st.fixed_dictionaries(
    {
        "label": texts,
        "points": points,
        "group_id": st.one_of(st.none(), st.integers(0, 2)),
        "shape_type": st.sampled_from(
            ["polygon", "polygon", "polygon", "rectangle", "circle", "mask", "line", "point", "linestrip", "new"]
        ),
        "flags": st.one_of(st.just({}), st.just({"iscrowd": True}), anything),
    },
    optional={"mask": st.sampled_from(MASKS), "description": st.one_of(st.text(max_size=5), anything)},
)
masks = st.builds(
    lambda x, y, mask: {"label": "plug", "points": [[x, y], [x + 3, y + 2]], "shape_type": "mask", "mask": mask},
    st.integers(-5, 50),
    st.integers(-5, 40),
    st.sampled_from(MASKS),
)
documents = st.fixed_dictionaries(
    {
        "version": st.just("5.5.0"),
        "flags": st.just({}),
        "shapes": st.lists(st.one_of(shapes, shapes, masks), max_size=6),
        "imagePath": st.sampled_from(["a.png", "a.png", "a.png", "./a.png", "sub\\..\\a.png", "../a.png", "b.png"]),
        "imageData": st.sampled_from([None, None, as_png(5, 5), "QUJD"]),
        "imageHeight": st.sampled_from([HEIGHT, None, WIDTH]),
        "imageWidth": st.sampled_from([WIDTH, None, HEIGHT]),
    }
)


def places(value, path=()):
    """The paths to every value in a JSON."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


@st.composite
def spoilt_documents(draw):
    """A document in which some values, anywhere, were replaced, doubled or taken away."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from([path for path in places(document) if path])) if document else (None,)
        if last is None:
            break
        holder = document
        for step in way:
            holder = holder[step]
        deed = draw(st.sampled_from(["replace", "double", "remove"]))
        if deed == "replace":
            holder[last] = draw(anything)
        elif deed == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            del holder[last]
    return document


policies = st.fixed_dictionaries(
    {}, optional={str(code): st.sampled_from(sorted(map(str, ALLOWED[code]))) for code in Code}
)
recipes = st.builds(
    Recipe,
    classes=st.sampled_from([None, None, ("plug", "switch")]),
    policy=st.one_of(st.just({}), policies),
    label_map=st.sampled_from([{}, {"polygon": "plug"}]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("any") / "in"
    folder.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), (9, 8, 7)).save(folder / "a.png")
    return folder


def require_coco_or_findings(folder: Path, recipe: Recipe) -> list:
    """Read, check and convert; what comes out must be usable, what does not must be named."""
    images, findings = read_usable(folder, recipe)
    assert images or findings
    for found in findings:
        assert found.file
        assert found.message
        assert found.outcome in ALLOWED[found.code] | {"drop"}
        json.dumps(found.to_json(), allow_nan=False, ensure_ascii=False).encode()
    target = folder.parent / "coco.json"
    write_truth(target, truth_of(images, choose_classes(images, recipe)))
    coco = COCO(str(target))
    for image in coco.dataset["images"]:
        assert image["width"] > 0
        assert image["height"] > 0
    for one in coco.dataset["annotations"]:
        image = coco.imgs[one["image_id"]]
        x, y, width, height = one["bbox"]
        assert all(map(math.isfinite, (x, y, width, height, one["area"])))
        assert x >= 0
        assert y >= 0
        assert x + width <= image["width"] + 1e-9
        assert y + height <= image["height"] + 1e-9
        assert one["area"] > 0
        assert coco.annToMask(one).shape == (image["height"], image["width"])
    return findings


def copy_as_published(folder: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    shutil.copy(folder / "a.png", target / "a.png")
    policy = Policy.of({"embedded_image_only": "drop"})
    for found in read_annotations(folder, 10**6, policy, write_embedded=True):
        if isinstance(found, Annotated):
            (target / found.file).write_bytes(
                edit_document(folder / found.file, {"imageData": None, "imagePath": found.image})
            )


@MANY
@given(spoilt_documents(), recipes)
def test_any_document_becomes_usable_coco_or_a_finding(folder, document, recipe):
    (folder / "a.json").write_text(json.dumps(document), encoding="utf-8")
    findings = require_coco_or_findings(folder, recipe)
    published = folder.parent / "published"
    copy_as_published(folder, published)
    if (published / "a.json").exists() and not recipe.policy:
        again = require_coco_or_findings(published, recipe)
        assert [one for one in again if one.shape_index is not None] == [
            one for one in findings if one.shape_index is not None
        ]


@MANY
@given(documents, st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=4), st.floats(0, 1))
def test_any_bytes_become_usable_coco_or_a_finding(folder, document, edits, kept):
    data = bytearray(json.dumps(document).encode())
    for place, replacement in edits:
        start = int(place * len(data))
        data[start : start + len(replacement)] = replacement
    if kept < 0.2:
        data = data[: int(len(data) * kept * 5)]
    (folder / "a.json").write_bytes(data)
    require_coco_or_findings(folder, Recipe())


@MANY
@given(spoilt_documents())
def test_any_document_can_be_read_for_publishing(folder, document):
    (folder / "a.json").write_text(json.dumps(document), encoding="utf-8")
    for found in read_annotations(folder, 10**6, Policy().publishing(), write_embedded=True):
        if isinstance(found, Annotated) and found.has_json:
            (folder.parent / "copy.json").write_bytes(edit_document(folder / found.file, {"imageData": None}))
            assert (folder.parent / "copy.json").stat().st_size


def test_the_only_errors_are_about_the_folder_itself(tmp_path):
    with pytest.raises(SightlineError):
        list(read_annotations(tmp_path, 10**6))
