"""The runs that a real server told of, as long ago as a test needs them, and pods of theirs."""

import copy
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "kfp_server"
RUNS: dict[str, dict[str, Any]] = {
    each["doing"]: each["run"] for each in json.loads((FOLDER / "runs_of_sightline.json").read_text())
}
MOMENT = re.compile(r"2026-1[12]-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def recorded(begins: str, ago: timedelta | None = None) -> dict[str, Any]:
    """The one run of which this was being done; with `ago`, as if its last change were so long ago."""
    (found,) = (run for doing, run in RUNS.items() if doing.startswith(begins))
    return moved(found, ago) if ago is not None else copy.deepcopy(found)


def moved(run: dict[str, Any], ago: timedelta) -> dict[str, Any]:
    """The same with every moment moved by as much."""
    text = json.dumps(run)
    newest = max(datetime.fromisoformat(each) for each in MOMENT.findall(text))
    shift = datetime.now(UTC) - ago - newest
    return dict(json.loads(MOMENT.sub(lambda each: _moment(datetime.fromisoformat(each[0]) + shift), text)))


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def log_of(begins: str) -> str:
    """What a container printed."""
    (found,) = (FOLDER / "logs").glob(f"{begins}*.txt")
    return found.read_text()


def pod_of(
    run_id: str, step: str, *, driver: bool = False, exit_code: int = 1, reason: str = "Error"
) -> dict[str, Any]:
    """A step's pod that ended with this, like one of the recorded server's; its name is the step's."""
    pod: dict[str, Any] = json.loads((FOLDER / "pods.json").read_text())["executor_failed"]
    end = f"{step}-driver(0)" if driver else f"{step}(0).executor(0)"
    pod["metadata"]["name"] = f"{step}-driver" if driver else step
    pod["metadata"]["labels"]["pipeline/runid"] = run_id
    pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = f"wf(0).root(0).{end}"
    over = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    over |= {"exitCode": exit_code, "reason": reason}
    return pod


def pending(run_id: str, step: str, driver: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A step's pod that no node can take, and its events."""
    told = json.loads((FOLDER / "pending_pod.json").read_text())
    pod, events = told["pod"], told["events"]
    end = f"{step}-driver(0)" if driver else f"{step}(0).executor(0)"
    pod["metadata"]["name"] = step
    pod["metadata"]["labels"]["pipeline/runid"] = run_id
    pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = f"wf(0).root(0).{end}"
    for event in events:
        event["involvedObject"]["name"] = step
    return pod, events
