"""The table of parameters: what follows from it, and that nothing else repeats it."""

import re
from pathlib import Path

import pytest

from components.parameters import PARAMETERS

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = "components/parameters.py"
SOURCES = [
    REPOSITORY / "pipeline.py",
    *sorted((REPOSITORY / "components").rglob("*.py")),
    *sorted((REPOSITORY / "laptop").rglob("*.py")),
]
ORDINARY_WORDS = {"category", "device", "recipe"}
"""Names that mean other things as well, in many files: a command's category, the recipe's file."""
OTHER_MEANINGS = {
    ("annotation_version", "components/record/component.py"): "the one that snapshot found",
    ("annotation_version", "components/wiring.py"): "the same, from snapshot to record",
    ("annotation_version", "laptop/local.py"): "a key of last_run.json",
    ("dataset_version", "laptop/local.py"): "a key of last_run.json",
    ("annotation_version", "laptop/kubeflow/sql.py"): "what SQL's run calls it",
}
"""Name and file: why that file may have the word."""


def test_no_parameter_stands_in_more_files_than_the_table_and_its_components():
    texts = {str(file.relative_to(REPOSITORY)): file.read_text() for file in SOURCES}
    found = {
        (each.name, file)
        for each in PARAMETERS
        if each.name not in ORDINARY_WORDS
        for file, text in texts.items()
        if re.search(rf"\b{each.name}\b", text)
        and file not in (TABLE, *(f"components/{step}/component.py" for step in each.to))
    }
    assert found == OTHER_MEANINGS.keys()


def test_the_form_which_sorts_by_name_keeps_together_what_belongs_together():
    of_the_run = {"annotation_version", "category", "dataset_version", "device", "recipe"}
    begins = [name.split("_")[0] for name in sorted({each.name for each in PARAMETERS} - of_the_run)]
    assert set(begins) == {"evaluate", "pod", "record", "test", "train"}
    strayed = [
        each.name
        for each in PARAMETERS
        if each.name not in of_the_run and each.name.split("_")[0] not in (*each.steps, "pod")
    ]
    assert strayed == []


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_row_says_what_it_is_and_where_it_goes(parameter):
    assert parameter.help
    assert parameter.to or parameter.pod
    assert parameter.kind in (str, int, float, dict, list)
    assert not parameter.choices or parameter.default in parameter.choices


def test_no_name_and_no_option_stands_twice():
    names = [name for each in PARAMETERS for name in (each.name, each.was) if name]
    flags = [each.option.flag for each in PARAMETERS if each.option]
    assert (len(set(names)), len(set(flags))) == (len(names), len(flags))
