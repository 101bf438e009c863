"""How a step's process ends by an error: a sentence in a frame, or a traceback where there is no sentence."""

import os
import subprocess
import sys

import pytest

from tests.workspace import REPOSITORY

RULE = "-" * 80
UNKNOWN = "from sightline import entry; entry.snapshot(interface=1, sauce='hot')"
UNEXPECTED = "from sightline import entry; entry._call(lambda: 1 / 0, 1, {})"


def stderr_of(code: str, **variables: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "shared_volume"), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()


def test_an_error_with_a_sentence_is_the_last_thing_said_and_has_no_traceback():
    above, sentence, below = stderr_of(UNKNOWN)
    assert above == below == RULE
    assert sentence.startswith("error: The pipeline gives sauce, which the helper code on the volume does not know")


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_debug_setting_shows_the_traceback_before_the_sentence(value, shown):
    lines = stderr_of(UNKNOWN, SIGHTLINE_DEBUG=value)
    assert ("Traceback (most recent call last):" in lines) == shown
    assert lines[-1] == lines[-3] == RULE


def test_an_error_that_nobody_foresaw_keeps_its_traceback():
    lines = stderr_of(UNEXPECTED)
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
