"""A terminal shows how far a long command has come, in bars of our own that go away; whatever is no terminal shows nothing."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.make_labelme import annotate, box
from tests.publishers import REPOSITORY as ROOT

SLOW = """
import sys, time
from sightline.processes import progress
progress.SHOWN_AFTER = float(sys.argv[1])
for _ in progress.track(range(10), "reading photographs"):
    time.sleep(0.1)
"""


def run_on_terminal(*command: str, **environment: str) -> str:
    """What a command writes to a terminal; it has to end well."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | environment) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so at the end
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0, written.decode()
    return written.decode()


@pytest.mark.parametrize(("after", "shown"), [("0.3", True), ("30", False)])
def test_what_takes_long_has_a_bar_that_goes_away(after, shown):
    written = run_on_terminal(sys.executable, "-c", SLOW, after, PYTHONPATH=str(ROOT / "shared_volume"))
    assert ("reading photographs" in written) is shown and ("10" in written) is shown
    assert written.rpartition("\r")[2].strip() == ""


def test_what_is_no_terminal_sees_no_bar():
    environment = os.environ | {"PYTHONPATH": str(ROOT / "shared_volume")}
    ended = subprocess.run([sys.executable, "-c", SLOW, "0"], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_publishing_on_a_terminal_draws_no_bar_of_dvcs(tmp_path: Path):
    for name in "abc":
        annotate(tmp_path / "in", f"{name}.png", [box()])
    command = ["--workspace", str(tmp_path / "workspace"), "publish", str(tmp_path / "in"), "--category", "desk"]
    written = run_on_terminal(sys.executable, str(ROOT / "pipeline.py"), *command, "--version", "v0.1.0")
    assert "desk_ann_v0.1.0" in written
    assert "Checking graph" not in written and "Adding" not in written
    assert "%|" not in written and "file/s" not in written and "\r\r" not in written.replace("\r\n", "\n")


TOLD = """
import json, logging, os, sys, time
from sightline.processes import progress
logging.basicConfig(level=logging.INFO, format="%(message)s")
progress.SECONDS_BETWEEN_LINES = 0.25
for item in progress.told(range(5), "fetching net.pth", 5, "megabyte"):
    time.sleep(0.2)
print(open(os.environ[progress.VARIABLE]).read())
"""


def test_a_step_tells_its_watcher_and_its_log_how_far_it_is(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "shared_volume"), "SIGHTLINE_PROGRESS": str(tmp_path / "p")}
    ended = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, env=environment, check=True)
    assert ended.stdout.strip() == '{"done": 5, "total": 5}'
    lines = ended.stderr.splitlines()
    assert lines and all(re.fullmatch(r"fetching net\.pth: [1-4] of 5 megabytes", line) for line in lines)
