"""Who starts a task again whose pod is lost: what `submit` and `schedule` say of it, the CronJob, the administrator's patch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop.cli import main
from laptop.kubeflow.retry import policy_of
from tests.functional.test_kubeflow import LOST, WELL, Said, begin, only
from tests.functional.test_kubeflow import command as command
from tests.functional.test_kubeflow import compiled as compiled
from tests.functional.test_kubeflow import database_url as database_url
from tests.functional.test_kubeflow import server as server
from tests.functional.test_kubeflow import submit as submit
from tests.kube_api import serve_pods, write_kubeconfig
from tests.ports import silent_port
from tests.workspace import REPOSITORY

CONFIG = "/api/v1/namespaces/kubeflow/configmaps/workflow-controller-configmap"
CRON_JOB = "/apis/batch/v1/namespaces/kubeflow/cronjobs/sightline-retry"
STOCK = """spec:
  ttlStrategy:
    secondsAfterCompletion: 3600
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""
PATCHED = STOCK.replace(
    "OnError",
    """Always
      expression: lastRetry.status == "Error" || asInt(lastRetry.exitCode) in [137, 143]""",
)
WARNING = "warning: a pod that is evicted or drained may end the run: Argo's retryPolicy is OnError"


def config(defaults: Any) -> dict[str, Any]:
    return {
        CONFIG: {"kind": "ConfigMap", "data": {"workflowDefaults": defaults, "artifactRepository": "archiveLogs: true"}}
    }


LOOKING = {CRON_JOB: {"kind": "CronJob", "spec": {"suspend": False}}}
ASLEEP = {CRON_JOB: {"kind": "CronJob", "spec": {"suspend": True}}}


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def use(address: str) -> None:
        place = str(write_kubeconfig(tmp_path / "kubeconfig", address))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", place)

    return use


CASES = {
    "as it comes": (config(STOCK), (), "say --retry 3, or have an administrator change that"),
    "with the CronJob, which retries nothing unasked": (config(STOCK) | LOOKING, (), "say --retry 3"),
    "retries that nobody will make": (config(STOCK), ("--retry", "2"), "no CronJob calls it"),
    "a CronJob that is suspended": (config(STOCK) | ASLEEP, ("--retry", "2"), "no CronJob calls it"),
    "retries that the CronJob makes": (config(STOCK) | LOOKING, ("--retry", "2"), ""),
    "retries that --wait makes": (config(STOCK), ("--retry", "2", "--wait"), ""),
    "with the patch": (config(PATCHED), (), ""),
    "on demand without": (config(STOCK), ("--no-check",), ""),
    "no policy": (config("spec: {}"), (), ""),
    "no defaults": (config(None), (), ""),
    "no YAML": (config("a: [b"), (), ""),
    "something else": (config("spec: [1]"), (), ""),
    "no ConfigMap": ({}, (), ""),
}  # fmt: skip
"""What Kubernetes holds, options -> what the warning goes on with; without it nothing is said."""


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_a_lost_pod_may_end_is_warned_of_in_one_line(server, submit, kubernetes, case):
    held, options, expected = CASES[case]
    server.plan = WELL
    with serve_pods([], {}, others=held) as address:
        kubernetes(address)
        said = submit(*options)
    assert said.status == 0, said.err
    assert len(server.runs) == 1
    lines = [line for line in said.err.splitlines() if line.startswith("warning")]
    assert len(lines) == bool(expected)
    for line in lines:
        assert line.startswith(WARNING) and expected in line
        assert line.endswith("docs/cluster.md, section 7")


def test_a_schedule_is_warned_of_too(server, command, compiled, kubernetes):
    arguments = ("schedule", "--pipeline", str(compiled), "--category", "desk", "--every", "6h")
    with serve_pods([], {}, others=config(STOCK)) as address:
        kubernetes(address)
        said = command(*arguments)
    assert WARNING in said.err and "say --retry 3" in said.err
    assert len(server.schedules) == 1
    with serve_pods([], {}, others=config(STOCK) | LOOKING) as address:
        kubernetes(address)
        assert command(*arguments, "--replace", "--retry", "3").err == ""


@pytest.mark.parametrize("how", ["forbidden", "no configuration", "silent"])
def test_who_may_not_look_is_told_nothing_and_waits_for_nothing(server, submit, kubernetes, how):
    with refusing(how) as address:
        if address:
            kubernetes(address)
        began = time.monotonic()
        said = submit()
    assert (said.status, said.err) == (0, "")
    assert len(server.runs) == 1
    assert time.monotonic() - began < 8  # seconds; the answer is waited for 2


@contextmanager
def refusing(how: str) -> Iterator[str]:
    if how == "forbidden":
        with serve_pods([], {}, status=403) as address:
            yield address
    elif how == "silent":
        with silent_port() as port:
            yield f"http://127.0.0.1:{port}"
    else:
        yield ""


def test_argo_is_looked_for_where_the_server_is_and_not_where_its_users_are(server, submit, kubernetes):
    server.multi_user = True
    with serve_pods([], {}, others=config(STOCK)) as address:
        kubernetes(address)
        said = submit("--kfp-namespace", "team-a")
    assert WARNING in said.err and "in kubeflow, cluster of KUBECONFIG" in said.err


# the CronJob


def cron_job() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "manifests/retry/cron-job.yaml").read_text())


def test_the_cron_jobs_command_retries_a_lost_run_and_fails_where_it_cannot_know(
    server, command, compiled, database_url, tmp_path, monkeypatch, capsys
):
    (container,) = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    python, script, *words = container["command"]
    assert (python, script) == ("python", "/opt/sightline/pipeline.py")
    assert {each["name"] for each in container["env"]} == {"KF_PIPELINES_ENDPOINT", "SIGHTLINE_DATABASE_URL"}
    command("schedule", "--pipeline", str(compiled), "--category", "desk", "--every", "6h", "--retry", "3")
    server.plan, server.retried = LOST, [WELL[0]] * 9
    run = server.fire(only(server.schedules)["recurring_run_id"])
    begin(database_url, run, "train")
    for _ in LOST:
        server.look(server.runs[run])
    monkeypatch.chdir(tmp_path)

    def fire() -> Said:
        capsys.readouterr()
        status = main(words)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    with monkeypatch.context() as without:
        without.delenv("SIGHTLINE_DATABASE_URL")
        assert fire().status == 1
        assert server.runs[run]["state"] == "FAILED"
    with monkeypatch.context() as without:
        without.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
        said = fire()
        assert said.status == 1 and "Kubeflow is missing" in said.err
    said = fire()
    assert said.status == 0, said.err
    assert f"run {run}: retry 1 of 3" in said.out
    assert server.runs[run]["state"] == "RUNNING"


# the administrator's patch


def test_the_patched_policy_is_read_as_one_that_needs_no_warning():
    class Held:
        def __init__(self, text: str) -> None:
            self.text = text

        def config(self, _: str) -> dict[str, str]:
            return {"workflowDefaults": self.text}

    assert policy_of(Held(STOCK)) == "OnError"  # type: ignore[arg-type]
    assert policy_of(Held(PATCHED)) == "Always"  # type: ignore[arg-type]
