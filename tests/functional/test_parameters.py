"""A parameter is written once: on a copy of the checkout one more is added, and all are renamed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workspace import copy_checkout, run_pipeline

TABLE = "components/parameters.py"
COMPONENT = "components/record/component.py"
FUNCTION = "shared_volume/sightline/steps/record/record.py"
ADDED = (
    (
        TABLE,
        '    Parameter("record_cpu"',
        '    Parameter("remark", "none", "a word for record", to={"record": "note"}, option=Option("--remark")),\n',
    ),
    (COMPONENT, "    dataset: dsl.Output", "    note: str,\n"),
    (COMPONENT, "        dataset=dataset,", "        note=note,\n"),
    (FUNCTION, ") -> Recorded:", '    note: str = "",\n'),
    (FUNCTION, "    with open_step(", '    raise SightlineError(f"record was told {note!r}")\n'),
)
"""File, before which words of it, which line."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


def insert(path: Path, before: str, line: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path} has {before!r} {text.count(before)} times"
    path.write_text(text.replace(before, f"{line}{before}"))


def form_of(checkout: Path, *options: str) -> dict[str, Any]:
    """The parameters of the compiled pipeline."""
    output = checkout / "pipeline.yaml"
    done = run_pipeline("compile", "-o", str(output), *options, checkout=checkout)
    assert done.returncode == 0, done.stderr
    return next(yaml.safe_load_all(output.read_text()))["root"]["inputDefinitions"]["parameters"]


def help_of_local(checkout: Path) -> str:
    return run_pipeline("local", "--help", checkout=checkout).stdout


def record(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Publish three photographs and run the step record."""
    workspace, photographs = str(checkout.parent / "workspace"), str(checkout.parent / "plates")
    for command in (
        ("sample", photographs, "--images", "3", "--labels", "board"),
        ("publish", photographs, "--category", "plates", "--version", "v0.1.0", "--workspace", workspace),
    ):
        done = run_pipeline(*command, checkout=checkout)
        assert done.returncode == 0, done.stderr
    command = ("local", "--category", "plates", "--steps", "record", "--workspace", workspace)
    return run_pipeline(*command, *options, checkout=checkout)


def test_a_parameter_is_added_in_three_files(checkout):
    for file, before, line in ADDED:
        insert(checkout / file, before, line)
    assert len({file for file, _, _ in ADDED}) == 3
    assert form_of(checkout)["remark"] == {"defaultValue": "none", "isOptional": True, "parameterType": "STRING"}
    assert "remark" not in form_of(checkout, "--steps", "train")
    assert re.search(r"^  --remark REMARK +a word for record \(default: none\)$", help_of_local(checkout), re.MULTILINE)
    program = "from components.parameters import as_markdown; print(as_markdown())"
    printed = subprocess.run([sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=True)
    assert "| `remark` | `--remark` | record | `none` | a word for record |" in printed.stdout
    assert "record was told 'well done'" in record(checkout, "--remark", "well done").stderr


@pytest.mark.slow
def test_a_parameter_is_renamed_in_its_row(checkout):
    before, options = form_of(checkout), help_of_local(checkout)
    table = checkout / TABLE
    renamed, rows = re.subn(r'Parameter\(\s*"', r"\g<0>our_", table.read_text())
    table.write_text(renamed)
    assert rows > len(before)
    assert form_of(checkout) == {f"our_{name}": facts for name, facts in before.items()}
    assert help_of_local(checkout) == options
    done = record(checkout, "--recipe", "fractions={'train': 1, 'val': 0, 'test': 0}")
    assert done.returncode == 0, done.stderr
