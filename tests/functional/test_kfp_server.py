"""The stand-in for a Kubeflow Pipelines server answers as a recorded one did: the very requests get the very answers."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kfp_nodes import DONE, DRIVER, PENDING, REUSED
from tests.kfp_server import KfpServer, serve

RUN = "717dc8a3-51e4-4280-9828-8761873bf1aa"
STOPPED = "to be stopped"
FAILED_RUN = "0a9ec636-89a2-41fc-af28-045ae8b9f1d2"
LOOKS = [
    None,
    (),
    (("snapshot", DRIVER),),
    (("snapshot", PENDING),),
    (("snapshot", DONE), ("record", DRIVER)),
    (("snapshot", DONE), ("record", REUSED), ("train", DRIVER)),
    (("snapshot", DONE), ("record", REUSED), ("train", REUSED)),
]
"""What had come of the recorded run at each look at it."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NEVER = ("1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def recording(data_dir: Path) -> Path:
    return data_dir / "kfp_server"


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with serve(KfpServer()) as running:
        yield running


def test_every_recorded_request_gets_the_recorded_answer(server, recording):
    exchanges = json.loads((recording / "exchanges.json").read_text())
    assert len(exchanges) == 39
    server.plan = LOOKS
    server.runs[FAILED_RUN] = exchanges[-1]["response"]["body"]  # it was started before the recording
    ids = {FAILED_RUN: FAILED_RUN}
    for number, exchange in enumerate(exchanges):
        if exchange["request"]["body"] and exchange["request"]["body"].get("display_name") == STOPPED:
            server.plan = LOOKS[1:3]
        status, body = send(server, with_ids(exchange["request"], ids), recording)
        expected = exchange["response"]
        learn_ids(expected["body"], body, ids)
        where = f"{number}: {exchange['doing']}"
        assert status == expected["status"], where
        assert plain(body) == plain(expected["body"]), where


KILLED, DELETED_POD, RETRIED_RUNNING = (
    "9c41a285-eca1-42f5-88c9-6f93fc91ab5a", "69ad9d74-1c88-40e2-88e8-baabef4f2ede", "fc7e6460-fe98-49b8-9b2a-9da9a2a2b6c1",
)  # fmt: skip
TERMINATED, TERMINATED_TWICE = "2adc9a53-d0e4-4042-b454-a1e59edda44b", "a22dd847-8284-45be-89bf-75e7c499520f"
UNDER_DELETED = (
    "6dd08608-6d8c-471a-8602-01d0db4aa96c", "b605774d-7e8d-4b11-8cba-f4b5af5e675b", "2f745b33-4914-4a76-933a-ffebf6aa7b1a",
)  # fmt: skip
UNDER_ORPHANED, FIRING = "644f3130-e21d-44db-920a-f1c3ff661a86", "4698cbcc-cae4-412a-869e-7fd161cb1de9"
UNDER_PAUSED, TOO_BIG = "e08447f8-a921-41f0-9e09-d7ff7528128e", "fdade340-cc75-4afb-93c9-47583a965072"
FIRED = {
    46: (UNDER_DELETED, "23f02f88-8d4d-427b-88c1-d64959661d45"),
    71: ((UNDER_ORPHANED,), "d649a2a0-9c3f-4639-8e44-bef8a544f4be"),
    76: ((FIRING,), "d192ada2-c240-4d15-971a-98320acdc5ee"),
    87: ((UNDER_PAUSED,), "e56eb4dd-da34-4607-b470-2b0212b7a868"),
}
"""Before which exchange a schedule started which runs."""
REPORTED = {
    9: (KILLED, "RUNNING", "FAILED"),
    15: (KILLED, "SUCCEEDED"),
    20: (DELETED_POD, "RUNNING", "FAILED"),
    23: (DELETED_POD, "SUCCEEDED"),
    25: (RETRIED_RUNNING, "RUNNING"),
    27: (RETRIED_RUNNING, "SUCCEEDED"),
    29: (TERMINATED, "RUNNING"),
    32: (TERMINATED, "CANCELING"),
    33: (TERMINATED, "FAILED"),
    38: (TERMINATED, "SUCCEEDED"),
    40: (TERMINATED_TWICE, "RUNNING"),
    43: (TERMINATED_TWICE, "CANCELING", "FAILED"),
    50: (UNDER_DELETED[0], "SUCCEEDED"),
    69: (UNDER_DELETED[1], "SUCCEEDED"),
    74: (UNDER_ORPHANED, "SUCCEEDED"),
    78: (FIRING, "CANCELING", "FAILED"),
    82: (FIRING, "SUCCEEDED"),
    90: (UNDER_PAUSED, "SUCCEEDED"),
    94: (TOO_BIG, "RUNNING"),
    97: (TOO_BIG, "CANCELING"),
    98: (TOO_BIG, "FAILED"),
}
"""Before which exchange what had become of a run's workflow; of one that was removed the server heard nothing."""


def test_retried_and_terminated_runs_and_schedules_that_go_answer_as_recorded(server, recording):
    exchanges = json.loads((recording / "exchanges_more.json").read_text())
    assert len(exchanges) == 99
    server.tag_name, server.commit_sha, server.prompt = "2.17.0", exchanges[0]["response"]["body"]["commit_sha"], False
    ids: dict[str, str] = {}
    for recorded in ("12d9a408-f0e2-42b3-a1cf-0e77d673b44b", *before_it(exchanges)):
        ids[recorded] = recorded  # made before the recording
    for number, exchange in enumerate(exchanges):
        runs, schedule = FIRED.get(number, ((), ""))
        for run in runs:
            ids[run] = server.fire(ids[schedule])
        if number in REPORTED:
            run, *states = REPORTED[number]
            server.report(ids[run], *states)
        for version in set(versions_of(exchange)) - server.versions.keys() - ids.keys():
            server.versions[version] = {"pipeline_spec": TWO_STEPS}
            ids[version] = version
        status, body = send(server, with_ids(exchange["request"], ids), recording, yaml.safe_dump(TWO_STEPS).encode())
        expected = exchange["response"]
        learn_ids(expected["body"], body, ids)
        where = f"{number}: {exchange['doing']}"
        assert status == expected["status"], where
        assert told(body) == told(expected["body"]), where


TWO_STEPS = {
    "pipelineInfo": {"name": "two-steps"},
    "root": {
        "inputDefinitions": {
            "parameters": {"seconds": {"parameterType": "NUMBER_INTEGER"}, "text": {"parameterType": "STRING"}}
        }
    },
}


def before_it(exchanges: list[Any]) -> set[str]:
    """The experiments and pipelines that were there already."""
    made = {
        exchange["response"]["body"].get(f"{what}_id")
        for exchange in exchanges[:8]
        for what in ("experiment", "pipeline")
    }
    bodies = [exchange["request"]["body"] or {} for exchange in exchanges]
    used = {body.get("experiment_id") for body in bodies}
    used |= {body.get("pipeline_version_reference", {}).get("pipeline_id") for body in bodies}
    return {each for each in used - made if each}


def versions_of(exchange: Any) -> list[str]:
    reference = (exchange["request"]["body"] or {}).get("pipeline_version_reference", {})
    return [reference["pipeline_version_id"]] if reference else []


def told(body: Any) -> Any:
    """The answer without nodes, which this recording leaves out, and without the random names of schedules' workflows."""
    text = json.dumps(plain({name: value for name, value in body.items() if name != "run_details"}))
    return json.loads(re.sub(r"[a-z]+[a-z0-9]{5}-\d-\d{4,10}", "WORKFLOW", text))


def send(server: KfpServer, request: dict[str, Any], recording: Path, upload: bytes | None = None) -> tuple[int, Any]:
    """Send a recorded request with an upload's file put back in."""
    body, content_type = request["body"], request["content_type"]
    data = None if body is None else json.dumps(body).encode()
    if content_type.startswith("multipart/"):
        boundary = content_type.partition("boundary=")[2]
        header = "\r\n".join(body["multipart_part_headers"])
        good = 'filename="p.yaml"' in header
        file = upload or ((recording / "uploaded.yaml").read_bytes() if good else b"no: pipeline\n")
        data = f"--{boundary}\r\n{header}\r\n\r\n".encode() + file + f"\r\n--{boundary}--\r\n".encode()
        assert upload or not good or len(data) == body["bytes"]
    asked = urllib.request.Request(
        server.url + request["path"], data, {"Content-Type": content_type}, method=request["method"]
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def with_ids(request: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """The request with this server's ids in place of the recorded one's."""
    text = UUID.sub(lambda found: ids.get(found[0], found[0]), json.dumps(request))
    return json.loads(text)


def learn_ids(recorded: Any, ours: Any, ids: dict[str, str]) -> None:
    """Which of our ids stands where a recorded one stood; tasks and pods are in no order and never asked for."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        for name in (recorded.keys() & ours.keys()) - {"run_details"}:
            learn_ids(recorded[name], ours[name], ids)
    elif isinstance(recorded, list) and isinstance(ours, list):
        for one, other in zip(recorded, ours, strict=False):
            learn_ids(one, other, ids)
    elif isinstance(recorded, str) and UUID.fullmatch(recorded):
        assert ids.setdefault(recorded, ours) == ours


def plain(body: Any) -> Any:
    """The answer without what differs from server to server: ids, times, random names, and the order of tasks."""
    workflows = {
        task["display_name"]
        for run in (body.get("runs") or [body])
        for task in run.get("run_details", {}).get("task_details", ())
        if any(re.fullmatch(re.escape(task["display_name"]) + r"-\d+", pod) for pod in pods_of(run))
    }

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: "PIPELINE"
                if name == "pipeline_spec"
                else sorted(json.dumps(each, sort_keys=True) for each in walk(item))
                if name in ("task_details", "child_tasks")
                else walk(item)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, str):
            for workflow in workflows:
                value = re.sub(re.escape(workflow) + r"(-\d+)?", lambda found: "POD" if found[1] else "WORKFLOW", value)
            text = UUID.sub("ID", value)
            return text if value in NEVER else TIME.sub("TIME", text)
        return value

    return walk(body)


def pods_of(run: dict[str, Any]) -> list[str]:
    tasks = run.get("run_details", {}).get("task_details", ())
    return [child["pod_name"] for task in tasks for child in task.get("child_tasks", ())]
