"""A small Kubeflow Pipelines server: it keeps state and answers as a real 2.17.0 did.

tests/functional/test_kubeflow.py replays the recorded requests against it and compares the answers, which keeps it honest.
"""

import json
import random
import re
import ssl
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.kfp_nodes import nodes_of

PREFIX = "/apis/v2beta1"
NEVER = "1970-01-01T00:00:00Z"
NAMESPACE = "kubeflow"
KINDS = {
    "STRING": ("string", str),
    "STRUCT": ("struct", dict),
    "LIST": ("list", list),
    "NUMBER_INTEGER": ("integer", int | float),
    "NUMBER_DOUBLE": ("double", int | float),
    "BOOLEAN": ("bool", bool),
}
FINAL = ("SUCCEEDED", "FAILED", "CANCELED")
ORPHAN = "ORPHAN"


@dataclass(frozen=True)
class Request:
    """What somebody asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any  # JSON, or the bytes of an uploaded file

    def __str__(self) -> str:
        return f"{self.method} {self.path.removeprefix(PREFIX)}"


@dataclass(frozen=True)
class Answer:
    """What the server says."""

    body: Any
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body)
        self.answer = answer


@dataclass
class Login:
    """Who may come in, and what others meet: a status, a login page, or a redirect to one."""

    token: str = ""
    cookie: str = ""
    otherwise: str = "401"


@dataclass
class KfpServer:
    """The server's state, and what it was asked. Change its fields as a test needs it."""

    tag_name: str = "unknown"
    commit_sha: str = "unknown"
    multi_user: bool = False
    root: str = ""
    """What stands before every path, as a proxy has it."""
    login: Login = field(default_factory=Login)
    requests: list[Request] = field(default_factory=list)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    plan: list[Sequence[tuple[str, str]] | None] = field(default_factory=list)
    """The steps' states at each look at a new run, None before it begins; the last look's decide how it ends."""
    retried: list[Sequence[tuple[str, str]] | None] = field(default_factory=list)
    """The same for a run that is retried: the plan from then on."""
    prompt: bool = True
    """Whether what happens to a workflow is known at once; else a test reports it."""
    before: Callable[[Request], Answer | None] = lambda _: None
    """Called first; an answer of its own is sent instead."""
    url: str = ""

    def asked(self, *kinds: str) -> list[str]:
        """The requests so far, in short, but for health; only those of the given methods when there are any."""
        told = [str(each) for each in self.requests if not each.path.endswith("/healthz")]
        return [each for each in told if not kinds or each.startswith(kinds)]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        own = self.before(request)
        if own is not None:
            return own
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        for (method, pattern), handle in ROUTES.items():
            found = re.fullmatch(re.escape(self.root) + PREFIX + pattern, request.path)
            if method == request.method and found:
                try:
                    return Answer(handle(self, request, *found.groups()))
                except RefusedError as refused:
                    return refused.answer
        return Answer({"code": 5, "message": "Not Found", "details": []}, 404)

    def _refusal(self, request: Request) -> Answer | None:
        login, headers = self.login, request.headers
        if request.path == "/login":
            return Answer("<!doctype html><title>Log in to your account</title>", 200, "text/html")
        welcome = not (login.token or login.cookie)
        welcome |= bool(login.token) and headers.get("Authorization") == f"Bearer {login.token}"
        welcome |= bool(login.cookie) and login.cookie in headers.get("Cookie", "").split("; ")
        if welcome:
            return None
        if login.otherwise == "page":
            return Answer("<!doctype html><title>Log in to your account</title>", 200, "text/html")
        if login.otherwise == "redirect":
            return Answer("", 302, "text/html", {"Location": "/login"})
        # Some proxies repeat what they refuse.
        said = f"refused {headers.get('Authorization', '')} {headers.get('Cookie', '')}"
        return Answer({"code": 16, "message": said}, int(login.otherwise))

    def look(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run, one planned step further."""
        if "_workflow" not in run:  # put in as it is
            return run
        plan = run["_plan"]
        if plan:
            steps, run["_plan"] = plan[0], plan[1:]
            if steps is not None:
                run["_steps"] = steps
                self._enter(run, "RUNNING")
                self._enter(run, "RUNNING" if run["_plan"] else _outcome(steps))
        elif run["state"] == "CANCELING" and self.prompt and not run["_gone"]:
            run["_looks"] += 1
            if run["_looks"] > 1:
                self._enter(run, "FAILED")
        if run["state"] != "PENDING":
            nodes = nodes_of(run["run_id"], run["_workflow"], run["_steps"], run["state"], run["_seen"])
            run["run_details"] = {"task_details": nodes}
        return shown(run)

    def report(self, run_id: str, *states: str) -> None:
        """What became of a run's workflow meanwhile; of one that is gone nothing is heard any more."""
        for state in states:
            if not self.runs[run_id]["_gone"]:
                self._enter(self.runs[run_id], state)

    def _enter(self, run: dict[str, Any], state: str) -> None:
        run["state"] = state
        if run["state_history"][-1]["state"] != state:
            run["state_history"].append({"update_time": _now(), "state": state})
        if state in FINAL:
            run["finished_at"] = _now()

    # pipelines

    def health(self, _: Request) -> Any:
        return {
            "commit_sha": self.commit_sha,
            "tag_name": self.tag_name,
            "multi_user": self.multi_user,
            "pipeline_store": "database",
        }

    def list_pipelines(self, request: Request) -> Any:
        namespace = request.query.get("namespace", "")
        return _page(
            request, "pipelines", [each for each in self.pipelines.values() if each.get("namespace", "") == namespace]
        )

    def get_pipeline(self, _: Request, pipeline_id: str) -> Any:
        if pipeline_id not in self.pipelines:
            raise _error(404, 5, f"Pipeline {pipeline_id} not found")
        return self.pipelines[pipeline_id]

    def upload_pipeline(self, request: Request) -> Any:
        name, namespace = request.query["name"], request.query.get("namespace", "")
        spec = _pipeline(request.body)
        if any((each["name"], each.get("namespace", "")) == (name, namespace) for each in self.pipelines.values()):
            raise _upload_error(409, "Failed to create a pipeline and a pipeline version")
        common = {
            "display_name": name,
            "name": name,
            **_given(description=request.query.get("description", "")),
            "created_at": _now(),
        }
        pipeline = {"pipeline_id": _id(), **common, **_given(namespace=namespace)}
        self.pipelines[pipeline["pipeline_id"]] = pipeline
        self.add_version({"pipeline_id": pipeline["pipeline_id"], **common, "pipeline_spec": spec})
        return pipeline

    def upload_version(self, request: Request) -> Any:
        name, pipeline_id = request.query["name"], request.query["pipelineid"]
        spec = _pipeline(request.body)
        if any((each["pipeline_id"], each["name"]) == (pipeline_id, name) for each in self.versions.values()):
            raise _upload_error(409, "Failed to create a pipeline version")
        return self.add_version(
            {
                "pipeline_id": pipeline_id,
                "display_name": name,
                "name": name,
                **_given(description=request.query.get("description", "")),
                "created_at": _now(),
                "pipeline_spec": spec,
            }
        )

    def add_version(self, version: dict[str, Any]) -> Any:
        version = {"pipeline_version_id": _id(), **version}
        self.versions[version["pipeline_version_id"]] = version
        return version

    def list_versions(self, request: Request, pipeline_id: str) -> Any:
        return _page(
            request,
            "pipeline_versions",
            [each for each in self.versions.values() if each["pipeline_id"] == pipeline_id],
        )

    def get_version(self, _: Request, pipeline_id: str, version_id: str) -> Any:
        return self.versions[version_id]

    # experiments

    def list_experiments(self, request: Request) -> Any:
        namespace = request.query.get("namespace", "")
        found = [each for each in self.experiments.values() if each.get("namespace", "") == namespace]
        return _page(request, "experiments", found)

    def create_experiment(self, request: Request) -> Any:
        body = request.body
        if any(each["display_name"] == body["display_name"] for each in self.experiments.values()):
            raise _error(409, 6, f"Already exist error: experiment {body['display_name']} already exists")
        experiment = {
            "experiment_id": _id(),
            "display_name": body["display_name"],
            "created_at": _now(),
            **_given(namespace=body.get("namespace", "")),
            "storage_state": "AVAILABLE",
            "last_run_created_at": NEVER,
        }
        self.experiments[experiment["experiment_id"]] = experiment
        return experiment

    # runs

    def create_run(self, request: Request) -> Any:
        body = request.body
        parameters = body["runtime_config"].get("parameters", {})
        self._check(body, parameters)
        now = _now()
        run = {
            "experiment_id": body["experiment_id"],
            "run_id": _id(),
            "display_name": body["display_name"],
            "storage_state": "AVAILABLE",
            "pipeline_version_reference": body["pipeline_version_reference"],
            **_given(runtime_config={"parameters": parameters} if parameters else None),
            **_given(description=body.get("description", "")),
            "service_account": "pipeline-runner",
            "created_at": now,
            "scheduled_at": now,
            "finished_at": NEVER,
            "state": "PENDING",
            "state_history": [{"update_time": now, "state": "PENDING"}],
            "_plan": list(self.plan),
            "_workflow": f"sightline-{uuid.uuid4().hex[:5]}",
            "_steps": (),
            "_seen": {},
            "_looks": 0,
            "_gone": False,
        }
        self.runs[run["run_id"]] = run
        return shown(run)

    def fire(self, schedule_id: str) -> str:
        """Start a run of a schedule, as the server does when the time has come. Returns its id."""
        schedule, now = self.schedules[schedule_id], _now()
        workflow = f"{schedule['display_name'].replace(' ', '')}{uuid.uuid4().hex[:5]}-1-{random.randrange(10**9)}"
        run = {
            "experiment_id": schedule["experiment_id"],
            "run_id": _id(),
            "display_name": workflow,
            "storage_state": "AVAILABLE",
            "pipeline_version_reference": schedule["pipeline_version_reference"],
            "runtime_config": schedule["runtime_config"],
            "created_at": now,
            "scheduled_at": now,
            "finished_at": NEVER,
            "state": "RUNNING",
            "recurring_run_id": schedule_id,
            "state_history": [{"update_time": now, "state": "RUNNING"}],
            "_plan": list(self.plan),
            "_workflow": workflow,
            "_steps": (),
            "_seen": {},
            "_looks": 0,
            "_gone": False,
        }
        self.runs[run["run_id"]] = run
        return str(run["run_id"])

    def _check(self, body: Any, parameters: Mapping[str, Any]) -> None:
        version = self.versions[body["pipeline_version_reference"]["pipeline_version_id"]]
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = [name for name in parameters if name not in known]
        said = ""
        if unknown:
            said = f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}"
        for name, value in parameters.items():
            kind, types = KINDS[known[name]["parameterType"]] if name in known else ("", object)
            if not isinstance(value, types):
                said = (
                    f"input parameter {name} requires type {kind}, but the input parameter is not of {kind} value type"
                )
        if said:
            start = "Failed to create a new run: Failed to generate the ExecutionSpec: invalid pipeline job inputs: "
            raise _error(400, 3, f"{start}Invalid input error: {said}", said)

    def get_run(self, _: Request, run_id: str) -> Any:
        self._find(run_id, "Failed to get a run: ")
        return self.look(self.runs[run_id])

    def _find(self, run_id: str, doing: str) -> dict[str, Any]:
        if run_id not in self.runs:
            said = f"Run {run_id} not found"
            raise _error(404, 5, f"{doing}Failed to fetch run {run_id}: ResourceNotFoundError: {said}", said)
        return self.runs[run_id]

    def list_runs(self, request: Request) -> Any:
        experiment = request.query.get("experiment_id", "")
        found = [shown(each) for each in self.runs.values() if experiment in ("", each["experiment_id"])]
        if request.query.get("sort_by") == "created_at desc":
            found = found[::-1]
        return _page(request, "runs", found)

    def terminate_run(self, _: Request, run_id: str) -> Any:
        failed = f"Failed to terminate run {run_id}"
        run = self._find(run_id, f"Failed to terminate a run: {failed} due to error fetching the run: ")
        if run["state"] in (*FINAL, "CANCELING"):
            said = f"Failed to terminate a run {run_id}. Row not found"
            raise _error(400, 3, f"Failed to terminate a run: {failed}: Invalid input error: {said}", said)
        run["state"] = "CANCELING"
        if run["_gone"]:
            name = run["_workflow"]
            start = f"Failed to terminate a run: InternalServerError: {failed} due to error terminating its workflow: "
            why = f"Failed to terminate workflow {name} due to patching error"
            missing = f'workflows.argoproj.io "{name}" not found'
            raise _error(500, 13, f"{start}{why} after multiple retries: {why}: {missing}", "Internal Server Error")
        for steps in run["_plan"]:  # it has come that far since somebody last looked
            self._enter(run, "RUNNING")
            run["_steps"] = steps or ()
            nodes_of(run_id, run["_workflow"], run["_steps"], "RUNNING", run["_seen"])
        run["_plan"], run["_looks"] = [], 0
        run["state"] = "CANCELING"
        if self.prompt:
            self._enter(run, "CANCELING")
        return {}

    def retry_run(self, _: Request, run_id: str) -> Any:
        failed = f"Failed to retry a run: Failed to retry run {run_id}"
        run = self._find(run_id, f"{failed} due to error fetching the run: ")
        if run["state"] != "FAILED":
            said = "Workflow must be Failed/Error to retry"
            raise _error(409, 10, f"{failed}: BadRequestError: {said}: workflow cannot be retried", said)
        self._enter(run, "RUNNING")
        run["finished_at"], run["_plan"] = NEVER, list(self.retried)
        if run.get("recurring_run_id", "") not in ("", *self.schedules):
            run["_gone"], run["_plan"] = True, []  # Kubernetes removes it, as its owner is gone
        return {}

    def archive_run(self, _: Request, run_id: str) -> Any:
        self._find(run_id, "Failed to archive a run: ")["storage_state"] = "ARCHIVED"
        return {}

    def delete_run(self, _: Request, run_id: str) -> Any:
        failed = f"Failed to delete a run: Failed to delete run {run_id} as it does not exist: "
        self._find(run_id, failed)
        del self.runs[run_id]
        return {}

    # schedules

    def create_schedule(self, request: Request) -> Any:
        body = request.body
        cron = body["trigger"].get("cron_schedule", {}).get("cron")
        if cron is not None and not 5 <= len(cron.split()) <= 6:
            said = (
                "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: Expected 5 to 6 "
                f"fields, found {len(cron.split())}: {cron}"
            )
            start = "Failed to create a recurring run due to conversion error: Invalid input error: "
            raise _error(400, 3, start + said, said)
        now, trigger = _now(), body["trigger"]
        if "periodic_schedule" in trigger:
            interval = {"interval_second": str(trigger["periodic_schedule"]["interval_second"])}
            trigger = {"periodic_schedule": interval}
        schedule = {
            "recurring_run_id": _id(),
            "display_name": body["display_name"],
            "pipeline_version_reference": body["pipeline_version_reference"],
            "runtime_config": body["runtime_config"],
            "service_account": "pipeline-runner",
            "max_concurrency": str(body["max_concurrency"]),
            "trigger": trigger,
            "mode": body["mode"],
            "created_at": now,
            "updated_at": now,
            "status": "ENABLED",
            **_given(no_catchup=body.get("no_catchup"), description=body.get("description", "")),
            "namespace": NAMESPACE,
            "experiment_id": body["experiment_id"],
        }
        self.schedules[schedule["recurring_run_id"]] = schedule
        return schedule

    def list_schedules(self, request: Request) -> Any:
        experiment = request.query.get("experiment_id", "")
        found = [each for each in self.schedules.values() if experiment in ("", each["experiment_id"])]
        return _page(request, "recurringRuns", found)

    def get_schedule(self, _: Request, schedule_id: str) -> Any:
        return self._schedule(schedule_id, "Failed to fetch a recurring run: ")

    def switch_schedule(self, _: Request, schedule_id: str, action: str) -> Any:
        word = action.upper()
        self.schedules[schedule_id] |= {"mode": word, "status": f"{word}D", "updated_at": _now()}
        return {}

    def delete_schedule(self, request: Request, schedule_id: str) -> Any:
        failed = f"Failed to delete recurring run {schedule_id}"
        self._schedule(schedule_id, f"Failed to delete a recurring run: {failed}. Check if exists: ")
        del self.schedules[schedule_id]
        for run in self.runs.values():
            if run.get("recurring_run_id") == schedule_id and request.query.get("propagation_policy") != ORPHAN:
                run["_gone"], run["_plan"] = True, []
        return {}

    def _schedule(self, schedule_id: str, doing: str) -> dict[str, Any]:
        if schedule_id not in self.schedules:
            said = f"Job {schedule_id} not found"
            raise _error(404, 5, f"{doing}ResourceNotFoundError: {said}", said)
        return self.schedules[schedule_id]


ID = r"([0-9a-f-]{36})"
ROUTES: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("GET", "/healthz"): KfpServer.health,
    ("GET", "/pipelines"): KfpServer.list_pipelines,
    ("POST", "/pipelines/upload"): KfpServer.upload_pipeline,
    ("POST", "/pipelines/upload_version"): KfpServer.upload_version,
    ("GET", f"/pipelines/{ID}"): KfpServer.get_pipeline,
    ("GET", f"/pipelines/{ID}/versions"): KfpServer.list_versions,
    ("GET", f"/pipelines/{ID}/versions/{ID}"): KfpServer.get_version,
    ("GET", "/experiments"): KfpServer.list_experiments,
    ("POST", "/experiments"): KfpServer.create_experiment,
    ("POST", "/runs"): KfpServer.create_run,
    ("GET", "/runs"): KfpServer.list_runs,
    ("GET", f"/runs/{ID}"): KfpServer.get_run,
    ("DELETE", f"/runs/{ID}"): KfpServer.delete_run,
    ("POST", f"/runs/{ID}:terminate"): KfpServer.terminate_run,
    ("POST", r"/runs/([^/]+):retry"): KfpServer.retry_run,
    ("POST", f"/runs/{ID}:archive"): KfpServer.archive_run,
    ("POST", "/recurringruns"): KfpServer.create_schedule,
    ("GET", "/recurringruns"): KfpServer.list_schedules,
    ("GET", f"/recurringruns/{ID}"): KfpServer.get_schedule,
    ("POST", f"/recurringruns/{ID}:(enable|disable)"): KfpServer.switch_schedule,
    ("DELETE", f"/recurringruns/{ID}"): KfpServer.delete_schedule,
}


@contextmanager
def serve(server: KfpServer, certificate: tuple[str, str] | None = None) -> Iterator[KfpServer]:
    """Let the server listen on a port of its own; `certificate` (its file and its key's) makes it speak TLS."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(
                self.command,
                address.path,
                query,
                {name.title(): value for name, value in self.headers.items()},
                _body(raw, self.headers["Content-Type"] or ""),
            )
            answer = server.answer(request)
            body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            self.send_response(answer.status)
            for name, value in {"Content-Type": answer.content_type, **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *about: Any) -> None:
            """A client that hangs up, or does not trust us, is part of some tests."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(*about)

    listening = Quiet(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    server.url = f"http{'s' if certificate else ''}://localhost:{listening.server_address[1]}"
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def shown(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run without what only this server knows."""
    return {name: value for name, value in run.items() if not name.startswith("_")}


def _outcome(steps: Sequence[tuple[str, str]]) -> str:
    return "FAILED" if any(state == "failed" for _, state in steps) else "SUCCEEDED"


def _body(raw: bytes, content_type: str) -> Any:
    if content_type.startswith("multipart/form-data"):
        return raw.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
    return json.loads(raw) if raw else None


def _pipeline(content: bytes) -> Any:
    """An uploaded pipeline; a platform's part stands beside it, as the server keeps it."""
    try:
        specs = list(yaml.safe_load_all(content))
        assert specs[0]["pipelineInfo"]["name"] and specs[0]["root"]
    except (yaml.YAMLError, IndexError, KeyError, TypeError, AssertionError):
        raise _upload_error(400, "unknown template format") from None
    return {"pipeline_spec": specs[0], "platform_spec": specs[1]} if len(specs) > 1 else specs[0]


def _page(request: Request, name: str, found: list[Any]) -> Any:
    """Those that pass the filter, a page of them; nothing at all when there are none."""
    for predicate in json.loads(request.query.get("filter") or "{}").get("predicates", ()):
        assert predicate["operation"] == 1, "only EQUALS is known here"
        found = [each for each in found if each[predicate["key"]] == predicate["stringValue"]]
    if not found:
        return {}
    start, size = int(request.query.get("page_token") or 0), int(request.query.get("page_size") or 0) or 20
    page = {name: found[start : start + size], "total_size": len(found)}
    return page | _given(next_page_token=str(start + size) if start + size < len(found) else "")


def _error(status: int, code: int, message: str, detail: str = "") -> RefusedError:
    details = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": detail or message}
    return RefusedError(Answer({"code": code, "message": message, "details": [details]}, status))


def _upload_error(status: int, message: str) -> RefusedError:
    """The details begin like the message; what follows was left out of the recording."""
    return RefusedError(Answer({"error_message": message, "error_details": f"{message} …"}, status))


def _given(**values: Any) -> dict[str, Any]:
    """Like protobuf's JSON: what is empty is left out."""
    return {name: value for name, value in values.items() if value}


def _id() -> str:
    return str(uuid.uuid4())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
