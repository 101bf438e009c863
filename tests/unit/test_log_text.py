"""What a step's container printed: the step's own lines, and the reason at the end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptop.kubeflow.answers import read
from laptop.kubeflow.log_text import driver_reason_in, own_lines, reason_in, sentence
from laptop.kubeflow.pod_state import Event, Pod, ended, waits_for
from tests.recorded_runs import FOLDER, log_of, pending
from tests.unit.test_answers import places, spoil

OURS = "2026-11-25 23:29:43,982 train "
LAUNCHERS_END = (
    "E1125 23:29:46.531903      15 launcher_v2.go:449] Component failed to execute successfully: exit status 1\n"
    "I1125 23:29:46.532294      15 launcher_v2.go:867] Executing uploadOutputArtifacts attempt: 1\n"
    'time=2026-11-25T23:29:47.258Z level=INFO msg="sub-process exited" error="exit status 1" argo=true\n'
    "Error: exit status 1\n"
)


def own(text: str) -> str:
    return "".join(own_lines(text.splitlines(keepends=True)))


def test_a_recorded_log_begins_and_ends_with_the_steps_own_lines():
    lines = own(log_of("624e7077")).splitlines()
    assert (
        lines[0]
        == f"{OURS.replace('29:43,982', '27:31,634')}run 624e7077-9d18-49d1-aee8-89d3267b3803 of plates starts from train-d07e75612a0adb93"
    )
    assert lines[-1].startswith("sightline.errors.SightlineError: Training was killed for memory (limit 1.1 GiB)")
    assert any(
        "train was killed for memory (limit 1.1 GiB); it goes on" in line for line in lines
    )  # its parent's words


LOGS = {
    "a line of ours": (f"{OURS}no room\n{LAUNCHERS_END}", "no room"),
    "a frame": (f"{'-' * 20}\nreason: no room\nfor it\n{'-' * 20}\n{LAUNCHERS_END}", "no room for it"),
    "a box": (f"╭{'─' * 20}╮\n│ no room   │\n╰{'─' * 20}╯\n{LAUNCHERS_END}", "no room"),
    "a traceback": ("Traceback (most recent call last):\n  File \"x\"\na.b.OwnError: no\nroom\n" + LAUNCHERS_END, "OwnError: no room"),
    "an old traceback": (f"Traceback (most recent call last):\n  x\nOSError: old\n{OURS}no room\n{LAUNCHERS_END}", "no room"),
    "the launcher's own failure": (
        "F1125 23:29:46.565831      15 main.go:59] failed to execute component: no such bucket\nError: exit status 1\n",
        "failed to execute component: no such bucket",
    ),
    "nothing of the step's": (LAUNCHERS_END, ""),
    "nothing": ("", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", LOGS)
def test_the_reason_is_the_end_of_what_the_step_said(case):
    log, reason = LOGS[case]
    assert reason_in(log) == reason


def test_the_words_error_exit_status_are_cut_at_the_end_only():
    assert own("Error: exit status 1\nmore\nError: exit status 1\n") == "Error: exit status 1\nmore\n"


@given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))), max_size=6))
def test_what_a_step_prints_is_left_as_it_is(lines):
    text = "".join(f"> {line}\n" for line in lines)
    around = log_of("7bccebcd").partition("Traceback")[0]
    assert own(around + text + LAUNCHERS_END) == text


def test_a_drivers_reason_is_its_error_without_the_call():
    assert driver_reason_in(log_of("d93a54b1")).startswith("failed to init podSpecPatch: quantities must match")
    assert driver_reason_in("anything\nelse\n") == ""


def test_a_sentence_is_one_line_of_a_length():
    assert sentence("SightlineError: a\n  b") == "a b"
    assert sentence("x" * 700) == "x" * 599 + "…"


@given(st.data())
def test_whatever_kubernetes_leaves_out_of_a_pod_is_read(data):
    told = [*json.loads((FOLDER / "pods.json").read_text()).values(), pending("run", "train")[0]]
    pod, (event, _) = data.draw(st.sampled_from(told)), pending("run", "train")[1]
    for each in (pod, event):
        for _ in range(data.draw(st.integers(1, 6))):
            spoil(each, data.draw(st.sampled_from(places(each))), data)
    found = read(Pod, pod)
    assert all(
        isinstance(said, str) for said in (found.role.step, ended(found), waits_for(found, [read(Event, event)]))
    )
    assert found.failed in (True, False)
