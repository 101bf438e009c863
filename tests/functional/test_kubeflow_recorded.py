"""Every run that a real server told of, through runs, submit --wait and logs: its states, reasons, and no traceback."""

import copy
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.parameters import PARAMETERS
from laptop.cli import main
from laptop.kubeflow import follow as following
from laptop.kubeflow import logs, pods
from laptop.kubeflow.access import Access
from laptop.kubeflow.connect import connect
from laptop.kubeflow.sql import Metadata
from sightline.services.database.connection import Database
from sightline.services.database.connection import connect as open_database
from sightline.services.database.models import StepRow
from sightline.services.database.runs import end_step, start_step
from sightline.services.database.scores import write_evaluation, write_model
from sightline.services.database.versions import claim_version, publish_version
from tests.kfp_server import Answer, KfpServer, Request, serve
from tests.kube_api import serve_pods, write_kubeconfig
from tests.ports import closed_port, silent_port
from tests.recorded_runs import FOLDER, RUNS, log_of, moved, pending, pod_of, recorded
from tests.unit.test_answers import PLACES, spoil

OTHERS = ("KF_PIPELINES_", "KFP_", "SIGHTLINE_", "KUBE", "SSL_CERT_FILE")
DAY = timedelta(days=1)
MINUTES = timedelta(minutes=20)
OURS = [doing for doing in RUNS if not doing.startswith("another pipeline's")]
ANOTHER = "another pipeline's"
NO_REASON = "no reason in Kubeflow, and SQL cannot be read (SIGHTLINE_DATABASE_URL is not set); its log: python pipeline.py logs"
NO_DRIVER = "its driver, which prepares its pod, failed, and Kubeflow does not say why; to go on: python pipeline.py retry 41ec2db6"
OUTCOMES = {
    "the product's whole pipeline": (0, "done", ""),
    "the same again": (0, "done", ""),
    "one line of evaluate edited": (0, "done", ""),
    "the train pod was deleted in mid-epoch": (0, "done", ""),
    "unknown category": (1, "failed", f"the step snapshot failed: {NO_REASON} 7bccebcd snapshot"),
    "train_memory=lots": (1, "failed", "the step train failed: train_memory=lots is not an amount that Kubernetes can read. Write it like 8Gi or 512Mi."),
    "train_memory=1100Mi": (1, "failed", f"the step train failed: {NO_REASON} 624e7077 train"),
    "terminated in mid-training": (1, "stopped", "the run was stopped by somebody\n"),
    "images that cannot be pulled": (1, "stopped", "the run was stopped by somebody while snapshot waited to begin"),
    "a firing of a recurring run": (0, "done", ""),
    "evaluate's pod was deleted gracefully": (1, "failed", f"the step evaluate failed: {NO_REASON} fb9c7936 evaluate"),
    "failed after a graceful deletion": (0, "done", ""),
    "the API server restarted": (1, "failed", f"the step evaluate failed: {NO_DRIVER}"),
    "its schedule was deleted": (1, "lost", "the run is lost: nothing of it has changed for 24 h: its workflow is gone"),
    "train_memory=64Gi": (1, "stopped", "the run was stopped by somebody while train waited to begin"),
}  # fmt: skip
"""Of each run: exit status of --wait, state in `runs`, and why it did not succeed, without SQL and Kubernetes."""


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with serve(KfpServer()) as running:
        yield running


@pytest.fixture(autouse=True)
def place(server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names the server and nothing else."""
    for name in [name for name in os.environ if name.startswith(OTHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    monkeypatch.setenv("SIGHTLINE_TIMEOUT", "5")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.setattr(following, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(following, "SECONDS_BETWEEN_DOUBTS", 0.0)
    monkeypatch.setattr(logs, "SECONDS_BETWEEN_LOOKS", 0.01)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str) -> Said:
        capsys.readouterr()
        status = main([*arguments, "--workspace", str(tmp_path / "workspace")])
        said = capsys.readouterr()
        assert "Traceback (most" not in said.err
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def wait(server: KfpServer, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """What `submit --wait` does once the run is there."""

    def run(run_id: str, records: Metadata | None = None) -> Said:
        capsys.readouterr()
        records = records or Metadata(None, "SIGHTLINE_DATABASE_URL is not set")
        status = following.follow(connect(Access(host=server.url)), run_id, records)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    url = f"sqlite:///{tmp_path / 'cluster.db'}"
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", url)
    found = open_database(url)
    found.migrate()
    return found


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Name a cluster as kubectl would find it."""

    def use(address: str) -> None:
        config = str(write_kubeconfig(tmp_path / "kubeconfig", address))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", config)

    return use


def put(server: KfpServer, *runs: dict[str, Any]) -> str:
    """Let the server know runs, the newest last; the id of the last."""
    for run in sorted(runs, key=lambda run: str(run["created_at"])):
        server.runs[run["run_id"]] = run
    return str(runs[-1]["run_id"])


def rows(said: Said) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads(said.out)}


def framed(text: str) -> list[str]:
    """The sentences that stand between two rules."""
    lines = text.splitlines()
    return [
        sentence
        for above, sentence, below in zip(lines, lines[1:], lines[2:], strict=False)
        if above == below == "-" * 80
    ]


# --- all of them, without SQL and without Kubernetes


def test_every_recorded_run_has_its_outcome_here() -> None:
    assert len(OUTCOMES) == len(OURS)


@pytest.mark.parametrize("begins", OUTCOMES)
def test_a_recorded_run_is_followed_to_its_end_and_its_reason(server, wait, begins):
    status, _, why = OUTCOMES[begins]
    run_id = put(server, recorded(begins, DAY))
    said = wait(run_id)
    assert said.status == status
    assert [f"{each}\n".startswith(f"error: {why}") for each in framed(said.err)] == [True] * status
    assert f"/#/runs/details/{run_id}" in said.out + said.err


def test_recorded_runs_are_listed_and_another_pipelines_are_left_out(server, command):
    put(server, *(recorded(begins, DAY) for begins in OUTCOMES), recorded(ANOTHER, DAY))
    said = command("runs", "--limit", "50", "--json")
    assert said.status == 0
    found = rows(said)
    for begins, (_, state, _) in OUTCOMES.items():
        assert found[recorded(begins)["run_id"]]["kubeflow"] == state, begins
    assert len(found) == len(OUTCOMES)
    table = command("runs", "--limit", "50").out
    assert (
        "train: train_memory=lots is not an amount that Kubernetes can read. Write it like 8Gi or 512Mi."
        in " ".join(table.split())
    )
    assert "wide.yaml" not in table
    assert "wide.yaml" in command("runs", "--all", "--limit", "50").out


@pytest.mark.parametrize(
    ("begins", "note"),
    [
        ("train_memory=64Gi", "train: stopped by somebody while it waited to begin"),
        ("images that cannot be pulled", "snapshot: stopped by somebody while it waited to begin"),
        ("terminated in mid-training", ""),
    ],
)
def test_a_run_that_was_stopped_while_it_waited_says_so(server, command, begins, note):
    run_id = put(server, recorded(begins, DAY))
    assert rows(command("runs", "--json"))[run_id]["note"] == note


def test_the_table_breaks_no_line_and_pads_none_where_the_output_is_no_terminal(server, command):
    put(server, *(recorded(begins, DAY) for begins in OUTCOMES))
    lines = command("runs", "--limit", "50").out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert f"7bccebcd  snapshot: {NO_REASON} 7bccebcd snapshot" in lines
    assert len(lines[: lines.index("")]) == 1 + len(OUTCOMES)  # a line each, and their titles


def test_on_a_terminal_too_a_command_to_copy_stays_on_its_line(server, command, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    put(server, recorded("unknown category", DAY))
    lines = re.sub("\x1b.*?m", "", command("runs").out).splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= 80
    assert f"7bccebcd  snapshot: {NO_REASON} 7bccebcd snapshot" in lines


@pytest.mark.parametrize("begins", OUTCOMES)
def test_logs_of_a_recorded_run_say_where_they_are_and_how_the_steps_ended(server, command, kubernetes, begins):
    run_id = put(server, recorded(begins, DAY))
    with serve_pods([], {}) as address:
        kubernetes(address)
        said = command("logs", run_id)
    assert said.status == 1
    status, state, _ = OUTCOMES[begins]
    assert ("reason: " in said.out) == (state == "failed")
    assert ("are gone" in said.err) == (state != "lost")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_server_leaves_out_no_command_ends_with_a_traceback(server, command, wait, data):
    doing = data.draw(st.sampled_from(list(RUNS)))
    run = recorded(doing, DAY)
    run_id = run["run_id"]
    for _ in range(data.draw(st.integers(1, 6))):
        spoil(run, data.draw(st.sampled_from(PLACES[doing])), data)
    server.runs.clear()
    server.runs[run_id] = run
    server.before = lambda request: Answer({"runs": [run]}) if request.path.endswith("/runs") else None
    assert command("runs", "--all").status == 0
    assert command("runs", "--json").status == 0
    assert command("logs", run_id, "train").status in (0, 1)
    if run.get("state") in ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"):  # others are waited for
        assert wait(run_id).status == (run["state"] != "SUCCEEDED")


# --- where a reason stands


def failing(begins: str, step: str, log: str, **how: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, str], str]:
    run = recorded(begins, DAY)
    pod = pod_of(run["run_id"], step, **how)
    return run, pod, {pod["metadata"]["name"]: log}, step


REASONS = {
    "snapshot writes no row": (
        *failing("unknown category", "snapshot", log_of("7bccebcd")),
        "No annotation version of 'nosuch' is published (published categories: desk, plates). "
        "Publish a folder first: python pipeline.py publish FOLDER --category nosuch --version v0.1.0",
    ),
    "killed for memory, and its parent says so": (
        *failing("train_memory=1100Mi", "train", log_of("624e7077"), reason="OOMKilled"),
        "Training was killed for memory (limit 1.1 GiB), even with one image at a time. Give it more memory "
        "(train_memory), or train on smaller images or with a smaller model (config).",
    ),
    "a size that is none, whatever its driver says": (
        *failing("train_memory=lots", "train", log_of("d93a54b1"), driver=True),
        "train_memory=lots is not an amount that Kubernetes can read. Write it like 8Gi or 512Mi.",
    ),
    "a driver": (
        *failing("the API server restarted", "evaluate", log_of("d93a54b1"), driver=True),
        "Kubeflow could not prepare its pod: failed to init podSpecPatch: quantities must match the regular expression "
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    "deleted gracefully": (
        *failing("evaluate's pod was deleted gracefully", "evaluate", "2026-11-25 23:47:30,1 evaluate so far\n", exit_code=143),
        "its pod was deleted, evicted or its node drained (exit code 143)",
    ),
    "the whole container killed for memory": (
        *failing("train_memory=1100Mi", "train", "on my way\n", exit_code=137, reason="OOMKilled"),
        "it was killed for memory (limit 200M)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REASONS)
def test_a_reason_that_only_the_pod_knows_is_told_by_all_three(server, command, wait, kubernetes, case):
    run, pod, texts, step, reason = REASONS[case]
    run_id = put(server, run)
    with serve_pods([pod], texts) as address:
        kubernetes(address)
        told = {each["name"]: each["reason"] for each in rows(command("runs", "--json"))[run_id]["steps"]}
        assert told.pop(step) == reason
        assert not any(told.values())
        assert framed(wait(run_id).err) == [f"error: the step {step} failed: {reason}"]
        assert framed(command("logs", run_id, step).out)[-1] == f"reason: {step} failed: {reason}"


def test_sql_is_believed_before_the_pod(server, command, kubernetes, database):
    run = recorded("train_memory=1100Mi", DAY)
    run_id = put(server, run)
    begin(database, run_id, "train")
    end_step(database, run_id, "train", "failed", "SightlineError: the loss is\nnot a number")
    with serve_pods([pod_of(run_id, "train")], {"train": "something else\n"}) as address:
        kubernetes(address)
        steps = {each["name"]: each["reason"] for each in rows(command("runs", "--json"))[run_id]["steps"]}
    assert steps["train"] == "the loss is not a number"


def test_kubernetes_is_never_waited_for_and_not_missed(server, command, kubernetes, monkeypatch):
    monkeypatch.setattr(pods, "GLANCE_SECONDS", (0.5, 0.5))
    asked: list[str] = []
    ask = pods.Pods.of_run
    monkeypatch.setattr(pods.Pods, "of_run", lambda self, run_id: asked.append(run_id) or ask(self, run_id))
    put(server, *(recorded(begins, DAY) for begins in OUTCOMES))
    for port in (closed_port, silent_port):
        with port() as number:
            kubernetes(f"http://127.0.0.1:{number}")
            said = command("runs", "--limit", "50")
        assert (said.status, said.err) == (0, "SQL is missing: SIGHTLINE_DATABASE_URL is not set\n")
        assert len(asked) == 1  # not for every run
        asked.clear()


def begin(database: Database, run: str, step: str, **given: Any) -> None:
    values = {"category": "plates", "code": f"{step}-0123", "code_digest": "0" * 64, "parameters": {}}
    start_step(database, run, step, **{**values, **given})


# --- logs: what is cut, and what is waited for


def test_a_log_is_the_steps_own_and_ends_with_the_reason(server, command, kubernetes):
    run, pod, texts, _, reason = REASONS["snapshot writes no row"]
    run_id = put(server, run)
    with serve_pods([pod], texts) as address:
        kubernetes(address)
        said = command("logs", run_id, "snapshot")
        raw = command("logs", run_id, "snapshot", "--raw")
    lines = said.out.splitlines()
    assert said.status == 0
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-4].startswith("sightline.errors.SightlineError: No annotation version")
    assert lines[-2] == f"reason: snapshot failed: {reason}"
    assert "executor_input" not in said.out
    assert raw.out == texts["snapshot"]
    assert framed(raw.err) == [f"reason: snapshot failed: {reason}"]


FRAMES = {
    "between rules": lambda text: [f"{'-' * 40}", f"snapshot failed: {text}", f"{'-' * 40}"],
    "in a box": lambda text: [
        f"╭{'─' * 60}╮",
        *(f"│ {line:<58} │" for line in textwrap.wrap(text, 58)),
        f"╰{'─' * 60}╯",
    ],
}


@pytest.mark.parametrize("frame", FRAMES)
def test_a_reason_that_the_step_framed_itself_stands_at_the_end_once(server, command, kubernetes, frame):
    run, pod, texts, _, reason = REASONS["snapshot writes no row"]
    run_id = put(server, run)
    start, _, rest = texts["snapshot"].partition("Traceback (most")
    launchers = rest[rest.index("\nE1125") + 1 :]
    text = start + "\n".join(FRAMES[frame](reason)) + "\n" + launchers
    with serve_pods([pod], {"snapshot": text}) as address:
        kubernetes(address)
        said = command("logs", run_id, "snapshot")
    assert said.status == 0
    assert " ".join(re.sub(r"[│─╭╮╰╯-]+", " ", said.out).split()).count("No annotation version") == 1
    assert said.out.splitlines()[-1].strip("─╰╯-") == ""


def test_another_reason_than_the_framed_one_is_told_after_it(server, command, kubernetes, database):
    run, pod, texts, _, _ = REASONS["snapshot writes no row"]
    run_id = put(server, run)
    begin(database, run_id, "snapshot")
    end_step(database, run_id, "snapshot", "failed", "SightlineError: the disk is full")
    rule = "-" * 80
    with serve_pods([pod], {"snapshot": f"{rule}\nreason: something else\n{rule}\n"}) as address:
        kubernetes(address)
        said = command("logs", run_id, "snapshot")
    assert said.out.splitlines()[1] == "reason: something else"
    assert framed(said.out)[0] == "reason: something else"
    assert framed(said.out)[-1] == "reason: snapshot failed: the disk is full"


def test_a_step_of_a_run_that_goes_on_is_waited_for(server, command, kubernetes):
    run = recorded("the product's whole pipeline", MINUTES)
    run["state"] = "RUNNING"
    waiting = {**run, "run_details": {"task_details": [
        node for node in run["run_details"]["task_details"] if (node.get("display_name") or "").startswith("snapshot")
    ]}}  # fmt: skip
    run_id = put(server, waiting)
    there: list[Any] = []
    looks = iter(range(100))

    def go_on(request: Request) -> None:
        if request.path.endswith(run_id) and next(looks) == 2:
            there.append(pod_of(run_id, "train", exit_code=0))
            server.runs[run_id] = run

    server.before = go_on
    with serve_pods(there, {"train": "trained\n"}) as address:
        kubernetes(address)
        said = command("logs", run_id, "train")
        assert (said.status, said.out) == (1, "")
        assert "train of run 39d77eb1 has not begun; wait for it with --follow" in said.err
        said = command("logs", run_id, "train", "--follow")
    assert (said.status, said.out) == (0, "trained\n")
    assert said.err.count("waiting for train: Kubeflow prepares it") == 1
    assert "are gone" not in said.err


def test_a_step_from_the_cache_has_no_log(server, command, kubernetes):
    run_id = put(server, recorded("the same again", DAY))
    with serve_pods([], {}) as address:
        kubernetes(address)
        said = command("logs", run_id, "train", "--follow")
    assert said.status == 0
    assert "train was reused in run 7ea711ff" in said.out


def test_a_step_that_never_began_names_the_one_that_failed(server, command, kubernetes):
    run, pod, texts, _, reason = REASONS["snapshot writes no row"]
    run_id = put(server, run)
    with serve_pods([pod], texts) as address:
        kubernetes(address)
        said = command("logs", run_id, "train", "--follow")
    assert said.status == 1
    assert "train never began in run 7bccebcd, which is over" in said.err
    assert framed(said.out) == [f"reason: snapshot failed: {reason}"]


@pytest.mark.parametrize("begins", ["unknown category", "its schedule was deleted", "the product's whole pipeline"])
def test_a_misspelt_step_is_told_with_the_nearest(server, command, kubernetes, begins):
    run_id = put(server, recorded(begins, DAY))
    with serve_pods([], {}) as address:
        kubernetes(address)
        for more in ((), ("--follow",)):
            said = command("logs", run_id, "trian", *more)
            assert (said.status, said.out) == (1, "")
            assert f"There is no step trian in run {run_id[:8]}. Did you mean 'train'?" in said.err
    said = command("logs", run_id, "trian")  # and without Kubernetes
    assert f"There is no step trian in run {run_id[:8]}. Did you mean 'train'?" in said.err


def test_a_step_of_another_pipeline_is_known_by_its_nodes_or_its_pods(server, command, kubernetes):
    run_id = put(server, recorded(ANOTHER, DAY))
    with serve_pods([pod_of(run_id, "widen")], {"widen": "wide\n"}) as address:
        kubernetes(address)
        assert command("logs", run_id, "widen").out == "wide\n"
        assert "There is no step xyz in run " in command("logs", run_id, "xyz").err


@pytest.mark.parametrize("more", [(), ("--follow",), ("train",), ("train", "--follow")])
def test_logs_of_a_lost_run_say_that_it_is_lost_and_do_not_wait(server, command, kubernetes, more):
    other, run = recorded("unknown category", DAY), recorded("its schedule was deleted", MINUTES)
    run_id = put(server, other, run)
    with serve_pods([pod_of(other["run_id"], "snapshot")], {"snapshot": "x\n"}) as address:
        kubernetes(address)
        said = command("logs", run_id, *more)
    assert said.status == 1
    assert said.err.count("The run 2c8c2d5b is lost: its workflow is gone from Kubernetes") == 1
    assert "has not begun" not in said.err


@pytest.mark.parametrize("case", REASONS)
def test_logs_without_pods_tell_a_reason_once(server, command, kubernetes, database, case):
    run, _, _, step, reason = REASONS[case]
    run_id = put(server, run)
    begin(database, run_id, step)
    end_step(database, run_id, step, "failed", reason)
    with serve_pods([], {}) as address:
        kubernetes(address)
        said = command("logs", run_id, step)
    assert said.out.count("reason: ") == said.out.count(f"{step} failed: ") == 1
    assert f"{step}: failed" not in said.out
    assert f"logs {run_id[:8]}" not in said.out + said.err


# --- pending


def waiting_run(step: str = "train") -> dict[str, Any]:
    """The run whose training no node could take, before it was terminated."""
    run = recorded("train_memory=64Gi", MINUTES)
    run["state"], run["state_history"] = "RUNNING", run["state_history"][:1]
    for node in run["run_details"]["task_details"]:
        if node.get("state") == "FAILED":
            attempt = node["display_name"] == "executor(0)"
            node |= {"state": "PENDING" if attempt else "RUNNING", "end_time": "0001-01-01T00:00:00Z"}
    return run


def no_image(pod: dict[str, Any]) -> None:
    waits = {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": "main", "image": "reg/us:v9", "state": waits}]}


WAITS = {
    "memory": (lambda pod: None, "no node takes it: 0/1 nodes are available: 1 Insufficient memory (it asks for memory 64Gi)"),
    "an event only": (
        lambda pod: pod["status"].pop("conditions"),
        "no node takes it: 0/1 nodes are available: 1 Insufficient memory (it asks for memory 64Gi)",
    ),
    "an image": (no_image, "the image reg/us:v9 cannot be pulled (ErrImagePull: manifest unknown)"),
    "a claim": (
        lambda pod: pod["status"]["conditions"][0].update(message='persistentvolumeclaim "sightline-volume" not found.'),
        'no node takes it: persistentvolumeclaim "sightline-volume" not found (it asks for memory 64Gi)',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WAITS)
def test_runs_and_wait_say_why_a_pod_is_pending(server, command, wait, kubernetes, case):
    change, why = WAITS[case]
    run = waiting_run()
    run_id = put(server, run)
    pod, events = pending(run_id, "train")
    change(pod)

    def end(request: Request) -> None:
        if len(server.asked(f"GET /apis/v2beta1/runs/{run_id}")) > 2 or len(server.asked(f"GET /runs/{run_id}")) > 2:
            server.runs[run_id] = recorded("train_memory=64Gi", MINUTES)

    with serve_pods([pod], {}, events=events) as address:
        kubernetes(address)
        steps = {each["name"]: each for each in rows(command("runs", "--json"))[run_id]["steps"]}
        assert (steps["train"]["kubeflow"], steps["train"]["waits"]) == ("pending", why)
        assert f"train cannot start: {why}" in " ".join(command("runs").out.split())
        server.before = end
        said = wait(run_id)
    assert said.out.count(f"train      cannot start: {why}") == 1
    assert said.status == 1


def test_a_run_that_has_not_begun_says_that_it_waits(server, wait):
    run = recorded("train_memory=64Gi", MINUTES)
    waits = {**run, "state": "PENDING", "state_history": run["state_history"][:1], "run_details": {"task_details": []}}
    looks = iter((waits, waits))
    run_id = put(server, run)
    server.before = lambda request: (
        Answer(said) if request.path.endswith(run_id) and (said := next(looks, None)) else None
    )
    said = wait(run_id)
    assert said.out.splitlines()[0] == "waiting to begin"
    assert said.out.count("waiting to begin") == 1


def test_after_ctrl_c_the_line_that_follows_on_works(server, command, wait, kubernetes, monkeypatch):
    run_id = put(server, waiting_run())

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(following.time, "sleep", interrupt)
        said = wait(run_id)
    assert said.status == 130
    (line,) = re.findall(r"python pipeline\.py (logs .*)", said.err)
    assert line == f"logs {run_id[:8]} --follow"
    server.runs[run_id] = recorded("train_memory=64Gi", MINUTES)
    with serve_pods([pod_of(run_id, "train")], {"train": "so far\n"}) as address:
        kubernetes(address)
        assert "so far" in command(*line.split()).out


def test_a_quota_that_lets_no_pod_be_made_is_told(server, command, kubernetes):
    run_id = put(server, waiting_run())
    nodes = json.loads((FOLDER / "pending_pod.json").read_text())["workflow_nodes"]
    for node in nodes:
        node["name"] = node["name"].replace(".big", ".train")
        if node["phase"] == "Pending":
            node["message"] = 'pods "train" is forbidden: exceeded quota: team, requested: limits.memory=64Gi'
    with serve_pods([], {}, nodes=nodes) as address:
        kubernetes(address)
        steps = {each["name"]: each["waits"] for each in rows(command("runs", "--json"))[run_id]["steps"]}
    assert steps["train"].startswith('its pod cannot be made: pods "train" is forbidden: exceeded quota: team')


def test_a_driver_that_waits_is_told_of_its_step(server, command, kubernetes):
    run = recorded("its schedule was deleted", MINUTES)
    run_id = put(server, run)
    pod, events = pending(run_id, "snapshot", driver=True)
    with serve_pods([pod], {}, events=events) as address:
        kubernetes(address)
        (step,) = rows(command("runs", "--json"))[run_id]["steps"]
    assert (step["name"], step["kubeflow"]) == ("snapshot", "pending")
    assert step["waits"].startswith("the pod that prepares it: no node takes it: 0/1 nodes")


# --- lost


def test_a_run_whose_workflow_is_gone_is_lost(server, command, kubernetes):
    run = recorded("its schedule was deleted", MINUTES)
    other = recorded("unknown category", DAY)
    run_id = put(server, other, run)
    assert rows(command("runs", "--json"))[run_id]["kubeflow"] == "running"  # too early to tell without Kubernetes
    with serve_pods([pod_of("another", "snapshot")], {}) as address:
        kubernetes(address)
        assert rows(command("runs", "--json"))[run_id]["kubeflow"] == "running"  # perhaps of another cluster
    with serve_pods([pod_of(other["run_id"], "snapshot")], {"snapshot": "x\n"}) as address:
        kubernetes(address)
        row = rows(command("runs", "--json"))[run_id]
    assert row["kubeflow"] == "lost"
    assert row["note"].startswith(
        "lost: its workflow is gone from Kubernetes, with all its pods; Kubeflow never ends it"
    )
    assert "archive or delete it in the UI" in row["note"]


def test_a_run_with_pods_or_a_beating_heart_or_a_pod_that_waits_is_not_lost(server, command, kubernetes, database):
    run = recorded("its schedule was deleted", DAY)
    run_id = put(server, run)
    with serve_pods([pod_of(run_id, "snapshot", exit_code=0)], {}) as address:
        kubernetes(address)
        assert rows(command("runs", "--json"))[run_id]["kubeflow"] == "running"
    waits = {**waiting_run(), "run_id": "a" * 8 + "-0000-0000-0000-000000000000"}
    trains = {**copy.deepcopy(waits), "run_id": "b" * 8 + "-0000-0000-0000-000000000000"}
    for node in trains["run_details"]["task_details"]:
        node["state"] = "RUNNING" if node.get("state") == "PENDING" else node.get("state")
    put(server, *(moved(each, timedelta(hours=3)) for each in (waits, trains)))
    for each in (waits, trains):
        begin(database, each["run_id"], "train")
    kubernetes("http://127.0.0.1:9")
    found = rows(command("runs", "--json"))
    assert [found[each["run_id"]]["kubeflow"] for each in (waits, trains)] == ["running", "running"]
    then = datetime.now(UTC) - timedelta(hours=2)
    database.write(lambda session: session.query(StepRow).update({"heartbeat_at": then}))
    found = rows(command("runs", "--json"))
    assert [found[each["run_id"]]["kubeflow"] for each in (waits, trains)] == ["running", "lost"]


def test_a_run_that_does_not_stop_is_lost(server, command):
    run = recorded("its schedule was deleted", MINUTES)
    run["state"] = "CANCELING"
    run_id = put(server, run)
    row = rows(command("runs", "--json"))[run_id]
    assert (row["kubeflow"], row["note"][:44]) == ("lost", "lost: it was told to stop and does not: its ")


@pytest.mark.parametrize("newer", [0, 3, 60])
def test_why_a_run_is_lost_does_not_depend_on_how_many_are_shown(server, command, kubernetes, newer):
    run, other = recorded("its schedule was deleted", DAY), recorded("unknown category", 2 * DAY)
    fillers = [{**recorded("the same again", MINUTES), "run_id": f"{n:08x}{run['run_id'][8:]}"} for n in range(newer)]
    run_id = put(server, other, *fillers, run)
    with serve_pods([pod_of(other["run_id"], "snapshot")], {"snapshot": "x\n"}) as address:
        kubernetes(address)
        notes = {rows(command("runs", "--json", "--limit", str(n)))[run_id]["note"] for n in (newer + 1, newer + 2)}
    (note,) = notes
    assert note.startswith("lost: its workflow is gone from Kubernetes, with all its pods; ")


# --- retry


def retried(server: KfpServer) -> list[str]:
    return [each for each in server.asked("POST /runs/") if each.endswith(":retry")]


EVICTED = {"phase": "Failed", "reason": "Evicted"}
ENDS = {
    "an own error that only its pod's log tells": ("unknown category", "snapshot", log_of("7bccebcd"), {}, "", "No annotation"),
    "out of memory, even with one image at a time": (
        "train_memory=1100Mi", "train", log_of("624e7077"), {"reason": "OOMKilled"}, "", "even with one image at a time",
    ),
    "its whole container out of memory": (
        "train_memory=1100Mi", "train", "", {"exit_code": 137, "reason": "OOMKilled"}, "", "it was killed for memory",
    ),
    "more disk than it may have": (
        "train_memory=1100Mi", "train", "", {}, {**EVICTED, "message": "Usage of EmptyDir exceeds the limit 1Gi."}, "exceeds",
    ),
    "a size that is none": ("train_memory=lots", "train", "", {"driver": True}, "", "train_memory=lots is not an amount"),
    "a pod that its driver cannot make": (
        "the API server restarted", "evaluate", log_of("d93a54b1"), {"driver": True}, "", "failed to init podSpecPatch",
    ),
    "deleted gracefully": ("evaluate's pod was deleted", "evaluate", "so far\n", {"exit_code": 143}, "", None),
    "its node lost": ("evaluate's pod was deleted", "evaluate", "so far\n", {"exit_code": 137}, "", None),
    "a node short of memory": (
        "evaluate's pod was deleted", "evaluate", "", {}, {**EVICTED, "message": "The node was low on resource: memory."}, None,
    ),
    "a driver that died": ("the API server restarted", "evaluate", "", {"driver": True, "exit_code": 143}, "", None),
}  # fmt: skip
"""What ended a run: its pod, its log, its state, and the error of its own, or None where it was lost."""


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("by", ["a person", "itself"])
def test_a_retry_knows_by_the_pods_what_runs_knows(server, command, kubernetes, database, case, by):
    begins, step, log, how, state, own = ENDS[case]
    run = {**recorded(begins, DAY), "description": "retry=2"}
    run_id = put(server, run)
    pod = pod_of(run_id, step, **how)
    if state:
        pod["status"] = state
    with serve_pods([pod], {pod["metadata"]["name"]: log}) as address:
        kubernetes(address)
        (told,) = (each["reason"] for each in rows(command("runs", "--json"))[run_id]["steps"] if each["reason"])
        said = command("retry", run_id) if by == "a person" else command("runs", "--retry-lost", "--json")
    assert len(retried(server)) == (own is None)
    if own is None:
        assert "retried, for the first time" in said.out or "retry 1 of 2, since" in said.out
    else:
        assert own in said.err and own in told
        assert said.status == (by == "a person")
    assert "not known" not in said.err


@pytest.mark.parametrize("began", [True, False])
def test_a_launcher_that_cannot_reach_kubeflow_is_no_error_of_the_step(server, command, kubernetes, database, began):
    run = {**recorded("evaluate's pod was deleted", DAY), "description": "retry=2"}
    run_id = put(server, run)
    if began:
        begin(database, run_id, "evaluate")
        end_step(database, run_id, "evaluate", "done")
    log = "scored\nF1125 23:29:46.565831      15 main.go:59] failed to publish: rpc error: code = Unavailable\n"
    with serve_pods([pod_of(run_id, "evaluate")], {"evaluate": log}) as address:
        kubernetes(address)
        command("runs", "--retry-lost")
        assert len(retried(server)) == began
        if not began:
            said = command("retry", run_id)
            assert said.status == 0
            assert "what ended it is not known (failed to publish: rpc error: code = Unavailable)" in said.err


def test_an_own_error_is_retried_by_force_only(server, command, kubernetes):
    run, pod, texts, _, _ = REASONS["killed for memory, and its parent says so"]
    run_id = put(server, copy.deepcopy(run))
    with serve_pods([pod], texts) as address:
        kubernetes(address)
        assert (
            f"The step train of the run {run_id} failed by itself: Training was killed" in command("retry", run_id).err
        )
        assert retried(server) == []
        assert command("retry", run_id, "--force").status == 0
    assert len(retried(server)) == 1


@pytest.mark.parametrize("begins", ["train_memory=64Gi", "terminated in mid-training", "images that cannot"])
def test_what_somebody_stopped_is_retried_by_force_only(server, command, begins):
    run = {**recorded(begins, DAY), "recurring_run_id": ""}
    run_id = put(server, run)
    said = command("retry", "latest")
    assert (said.status, retried(server)) == (1, [])
    assert f"Somebody stopped the run {run_id} ({run['display_name']})" in said.err
    assert command("retry", "latest", "--force").status == 0
    assert len(retried(server)) == 1


def test_a_driver_that_failed_is_told_with_the_way_on_and_retried_without_it(server, command, kubernetes, database):
    run_id = put(server, recorded("the API server restarted", DAY))
    with serve_pods([], {}) as address:
        kubernetes(address)
        said = command("logs", run_id, "evaluate")
        steps = {each["name"]: each["reason"] for each in rows(command("runs", "--json"))[run_id]["steps"]}
    assert steps["evaluate"] == NO_DRIVER
    assert framed(said.out) == [f"reason: evaluate failed: {NO_DRIVER}"]
    assert "pipeline.py logs" not in said.out + said.err
    for node in server.runs[run_id]["run_details"]["task_details"]:
        if node.get("display_name") == "evaluate-driver":
            node["error"] = {"message": "rpc error: code = Unavailable"}
    assert "prepares its pod, failed: rpc error: code = Unavailable; to go on:" in " ".join(command("runs").out.split())
    said = command("retry", run_id)
    assert (said.status, said.err, len(retried(server))) == (0, "", 1)
    assert "to go on" not in said.out


def test_a_run_of_this_laptop_is_not_looked_for_in_kubeflow(server, command, database):
    begin(database, "20261121-085810-9c93", "record")
    for which in ("20261121-085810-9c93", "20261121-0", "latest"):
        said = command("retry", which)
        assert said.status == 1
        assert "20261121-085810-9c93 is a run of this laptop" in said.err
        assert "run the same command again to go on" in said.err
    assert not server.asked("GET /apis/v2beta1/runs/2026")


# --- ours


def test_latest_and_runs_mean_ours(server, command, kubernetes):
    ours, other = recorded("unknown category", DAY), recorded(ANOTHER, MINUTES)
    put(server, ours, other)
    with serve_pods([pod_of(ours["run_id"], "snapshot")], {"snapshot": "ours\n"}) as address:
        kubernetes(address)
        assert command("logs", "latest", "snapshot").out.startswith("ours\n")
    assert list(rows(command("runs", "--json"))) == [ours["run_id"]]
    assert list(rows(command("runs", "--json", "--all"))) == [other["run_id"], ours["run_id"]]
    del server.runs[ours["run_id"]]
    assert "This pipeline has no runs yet" in command("logs", "latest").err


@pytest.mark.parametrize("known", ["by SQL", "by its pipeline's name", "by the name in its own text"])
def test_a_run_without_our_parameters_is_known(server, command, database, known):
    run = {**recorded("unknown category", DAY), "runtime_config": {}}
    run_id = put(server, run)
    assert rows(command("runs", "--json")) == {}
    if known == "by SQL":
        begin(database, run_id, "record")
    elif known == "by its pipeline's name":
        pipeline = run["pipeline_version_reference"]["pipeline_id"]
        server.pipelines[pipeline] = {"pipeline_id": pipeline, "display_name": "sightline-evaluate"}
    else:
        run["pipeline_spec"] = {"pipeline_spec": {"pipelineInfo": {"name": "sightline"}}, "platform_spec": {}}
    assert list(rows(command("runs", "--json"))) == [run_id]


@pytest.mark.parametrize("names", ["as recorded", "as they are now"])
def test_a_run_is_known_by_a_few_of_our_parameters(server, command, names):
    run = recorded("unknown category", DAY)
    few = {name: run["runtime_config"]["parameters"][name] for name in ("category", "config", "epochs", "overrides")}
    run["runtime_config"]["parameters"] = few if names == "as recorded" else renamed(few)
    run_id = put(server, run)
    assert list(rows(command("runs", "--json"))) == [run_id]
    run["runtime_config"]["parameters"] = {name: few[name] for name in ("category", "config", "epochs")}
    assert rows(command("runs", "--json")) == {}


def test_a_limit_shows_no_older_run_of_the_cluster_as_a_laptops(server, command, database):
    runs = [recorded(begins, DAY) for begins in ("unknown category", "the same again")]
    older, newer = sorted(runs, key=lambda run: str(run["created_at"]))
    put(server, older, newer)
    begin(database, older["run_id"], "record")  # now, and so after `newer` would have begun
    assert list(rows(command("runs", "--json", "--limit", "1"))) == [newer["run_id"]]
    begin(database, "20261121-085810-9c93", "record")
    assert list(rows(command("runs", "--json", "--limit", "2"))) == [newer["run_id"], older["run_id"]]
    found = rows(command("runs", "--json"))
    assert {each["id"]: each["where"] for each in found.values()} == {
        newer["run_id"]: "cluster", older["run_id"]: "cluster", "20261121-085810-9c93": "a laptop",
    }  # fmt: skip
    del server.runs[older["run_id"]]
    found = rows(command("runs", "--json"))
    assert found[older["run_id"]]["note"] == "Kubeflow no longer has this run"
    assert len(found) == 3


def test_a_laptops_own_runs_are_marked_and_its_sql_is_not_taken_for_the_clusters(server, command, tmp_path):
    put(server, recorded("unknown category", DAY))
    (tmp_path / "workspace").mkdir()
    own = open_database(f"sqlite:///{tmp_path / 'workspace' / 'sightline.db'}")
    own.migrate()
    begin(own, "20261121-085810-9c93", "record")
    said = command("runs")
    assert said.err == "SQL: this workspace's sightline.db, not the cluster's; set SIGHTLINE_DATABASE_URL\n"
    (line,) = [each for each in said.out.splitlines() if each.startswith("20261121-085810-9c93")]
    assert "this laptop" in line
    assert "20261121" not in command("runs", "--limit", "1").out


# --- the end


def test_sqls_column_is_not_done_while_the_run_goes_on(server, command, database):
    run_id = put(server, waiting_run())
    begin(database, run_id, "record")
    end_step(database, run_id, "record", "done")
    assert rows(command("runs", "--json"))[run_id]["sql"] == "running"
    with closed_port() as port:
        said = command("runs", "--json", "--host", f"http://127.0.0.1:{port}")
    assert rows(said)[run_id]["sql"] == "done so far"


def test_attempts_are_counted_from_one(server, command, database):
    run_id = put(server, recorded("the train pod was deleted in mid-epoch", DAY))
    begin(database, run_id, "record")
    begin(database, run_id, "train", attempt=1)
    steps = {each["name"]: each["attempt"] for each in rows(command("runs", "--json"))[run_id]["steps"]}
    assert (steps["record"], steps["train"]) == (1, 2)
    assert "(attempt 2)" in command("runs").out
    assert "(attempt 1)" not in command("runs").out


def test_in_the_second_in_which_a_run_ends_its_steps_are_looked_at_once_more(server, wait):
    run = recorded("unknown category", DAY)
    run_id = put(server, run)
    early = copy.deepcopy(run)
    for node in early["run_details"]["task_details"]:
        if node.get("state") == "FAILED":
            node |= {"state": "RUNNING", "end_time": "0001-01-01T00:00:00Z"}
    looks = iter((early,))
    server.before = lambda request: (
        Answer(said) if request.path.endswith(run_id) and (said := next(looks, None)) else None
    )
    said = wait(run_id)
    assert [line.split()[:2] for line in said.out.splitlines() if line.startswith("  snapshot")] == [
        ["snapshot", "running"],
        ["snapshot", "failed"],
    ]
    assert "the step snapshot failed" in said.err


def test_a_database_that_is_gone_at_the_end_does_not_spoil_it(server, wait, database, tmp_path):
    run_id = put(server, recorded("the product's whole pipeline", DAY))
    (tmp_path / "cluster.db").write_text("no database any more, but some text of some length" * 100)
    said = wait(run_id, Metadata(database))
    assert said.status == 0
    assert "scores: in the UI, step evaluate, artifact scores (not from SQL: " in said.out


MADE = {
    "the one before": ({}, {}, True),
    "its code differs": ({"evaluate": "evaluate-9999"}, {}, False),
    "candidates that nobody recorded": ({}, {"candidate_models": ["gs://b/m"]}, False),
}


@pytest.mark.parametrize("names", ["as recorded", "as they are now"])
@pytest.mark.parametrize("case", MADE)
def test_a_reused_run_ends_with_the_scores_and_the_run_that_made_them(server, wait, database, case, names):
    codes, given, sure = MADE[case]
    run = recorded("the same again", timedelta(0))
    given = {**run["runtime_config"]["parameters"], **given}
    run["runtime_config"]["parameters"] = given if names == "as recorded" else renamed(given)
    run["created_at"] = "2099-01-01T00:00:00Z"  # after what is recorded below
    run_id = put(server, run)
    parameters = {"epochs": 4, "overrides": {}, "recipe": {}, "select_by": "bbox_mAP", "annotation_version": "v0.1.0",
                  "config": "mask_rcnn_r18_small"}  # fmt: skip
    version = publish(database, "plates")
    score(database, "oldest", version, 0.5, parameters, codes)
    score(database, "maker", version, 0.625, parameters)
    score(database, "longer", version, 0.75, {**parameters, "epochs": 8})
    score(database, "other-split", version, 0.875, parameters, split="val")
    said = wait(run_id, Metadata(database))
    assert said.status == 0
    assert "nothing new: every step was reused" in said.out
    assert re.search(r"bbox_mAP\W+0\.625", said.out)
    assert re.search(r"made by the run maker of \d{4}-\d\d-\d\d \d\d:\d\d UTC", said.out)
    assert ("if it is the one that was reused" in said.out) is not sure


def renamed(parameters: dict[str, Any]) -> dict[str, Any]:
    """A recorded run's parameters by their names of today."""
    today = {each.was: each.name for each in PARAMETERS if each.was}
    assert parameters.keys() & today.keys()
    return {today.get(name, name): value for name, value in parameters.items()}


def publish(database: Database, category: str) -> int:
    claim = claim_version(database, category, "dataset", "v0.1.0", "me")
    return publish_version(database, claim, tag="plates_train_v0.1.0", commit="c" * 40, digest="d" * 64).id


def score(
    database: Database, run: str, version: int, value: float, parameters: Any, codes: Any = None, split: str = "test"
) -> None:
    for step in ("record", "train", "evaluate"):
        begin(database, run, step, parameters=parameters, code=(codes or {}).get(step, f"{step}-0123"))
        end_step(database, run, step, "done")
    model = write_model(database, f"gs://b/{run}", "0" * 64, "best", run_id=run)
    write_evaluation(
        database,
        run_id=run,
        model_id=model.id,
        version_id=version,
        split=split,
        selected=True,
        overall={"bbox_mAP": value},
    )
