"""The references that artifacts hold: written small, read back whole, refused when they are something else."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sightline.references import BadReferenceError, DatasetReference, ModelReference, write_reference

DATASET = DatasetReference("desk", "v0.2.0", "desk_train_v0.2.0", "4f0c1d2e", "9b7a")
MODEL = ModelReference("gs://bucket/results/desk/best", "ab12", "desk", "v0.2.0", "mask_rcnn_r18_small")


@dataclass
class Artifact:
    """Like KFP's: what the launcher gives before a step runs."""

    path: str
    uri: str = "minio://mlpipeline/v2/artifacts/dataset"
    metadata: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Artifact(str(tmp_path / "not" / "there" / "yet" / "dataset"))


def test_a_reference_is_one_line_with_the_given_order(artifact):
    write_reference(artifact, {"version": "v0.2.0", "category": "dësk", "images": 92, "score": 0.5, "parent": None})
    text = Path(artifact.path).read_text(encoding="utf-8")
    assert text == '{"version": "v0.2.0", "category": "dësk", "images": 92, "score": 0.5, "parent": null}\n'


def test_metadata_says_the_same_in_strings_and_numbers(artifact):
    artifact.metadata["display_name"] = "dataset"
    write_reference(artifact, {"version": "v0.2.0", "images": 92, "parent": None})
    assert artifact.metadata == {"display_name": "dataset", "version": "v0.2.0", "images": 92}


def test_the_artifact_s_own_place_stays_as_the_launcher_set_it(artifact):
    before = (artifact.uri, artifact.path)
    write_reference(artifact, {"uri": "gs://bucket/results/desk/best", "path": "elsewhere"})
    assert (artifact.uri, artifact.path) == before


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_written_as_null(artifact, number):
    write_reference(artifact, {"metric_value": number})
    assert json.loads(Path(artifact.path).read_text(), parse_constant=pytest.fail) == {"metric_value": None}
    assert artifact.metadata == {}


def test_a_second_attempt_replaces_the_first(artifact):
    write_reference(artifact, MODEL.to_json() | {"config": "a much longer name than the next one"})
    write_reference(artifact, MODEL.to_json())
    assert json.loads(Path(artifact.path).read_text()) == MODEL.to_json()


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(DATASET, id="dataset"),
        pytest.param(MODEL, id="model, the optional facts missing"),
        pytest.param(
            ModelReference("file:///m", "ab", "desk", "v0.2.0", "c", "bbox_mAP", 0.83, "file:///last", "cd"), id="model"
        ),
    ],
)
def test_typed_references_come_back_as_they_were(artifact, reference):
    write_reference(artifact, reference.to_json())
    assert type(reference).from_text(Path(artifact.path).read_text()) == reference
    text = reference.to_text()
    assert (type(reference).from_text(text), text.count("\n")) == (reference, 0)


def test_the_text_of_a_score_that_is_no_number_is_null():
    text = replace(MODEL, metric_name="bbox_mAP", metric_value=math.nan).to_text()
    assert json.loads(text, parse_constant=pytest.fail)["metric_value"] is None


def test_the_most_telling_fact_comes_first():
    assert list(DATASET.to_json())[:2] == ["category", "version"]
    assert next(iter(MODEL.to_json())) == "uri"
    assert (DATASET.to_json()["kind"], MODEL.to_json()["kind"]) == ("dataset", "model")


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(ModelReference, DATASET.to_json()), (DatasetReference, MODEL.to_json()), (DatasetReference, {})],
    ids=["a dataset for a model", "a model for a dataset", "nothing"],
)
def test_a_reference_to_something_else_is_refused(wanted, given):
    with pytest.raises(BadReferenceError, match=f"not to a '{wanted.KIND}'"):
        wanted.from_json(given)


def test_a_missing_fact_is_named():
    incomplete = {name: value for name, value in DATASET.to_json().items() if name != "commit"}
    with pytest.raises(BadReferenceError, match="'commit'"):
        DatasetReference.from_json(incomplete)


def test_facts_that_a_later_version_added_are_ignored():
    assert DatasetReference.from_json(DATASET.to_json() | {"licence": "CC0"}) == DATASET


@pytest.mark.parametrize(
    "text",
    ["", '{"category": "de', '["desk"]', '"desk"', "desk"],
    ids=["empty", "cut off", "a list", "a string", "no JSON"],
)
def test_a_text_that_is_no_reference_is_refused(text):
    with pytest.raises(BadReferenceError, match="is not a reference"):
        DatasetReference.from_text(text)
