"""logs: pods as a real Kubernetes described them, asked for over HTTP."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laptop.cli import main
from laptop.kubeflow import logs
from sightline.services.database.connection import connect
from sightline.services.database.runs import end_step, start_step
from tests.kfp_server import KfpServer, serve
from tests.kube_api import serve_pods, write_kubeconfig
from tests.ports import HOST, closed_port

RUN = "717dc8a3-51e4-4280-9828-8761873bf1aa"
OTHER_RUN = "0a9ec636-89a2-41fc-af28-045ae8b9f1d2"
SNAPSHOT = "proto-mmmrl-system-container-impl-2289288664"
OURS = {"pipeline_spec": {"pipelineInfo": {"name": "sightline"}}}


@pytest.fixture
def pods(data_dir: Path) -> list[Any]:
    """The executor pods of two runs: snapshot, done, and work, failed."""
    return list(json.loads((data_dir / "kfp_server" / "pods.json").read_text()).values())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    """A server that knows the run, and an environment that names it and a database."""
    with serve(KfpServer()) as running:
        for run in (OTHER_RUN, RUN):
            running.runs[run] = {"run_id": run, "experiment_id": "e", "state": "SUCCEEDED", **OURS}
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", running.url)
        monkeypatch.setenv("SIGHTLINE_DATABASE_URL", f"sqlite:///{tmp_path / 'cluster.db'}")
        monkeypatch.setenv("SIGHTLINE_TIMEOUT", "5")
        connect(f"sqlite:///{tmp_path / 'cluster.db'}").migrate()
        yield running


def framed(text: str) -> str:
    """The sentence with which an output ends, between two rules."""
    *_, above, sentence, below = text.splitlines()
    assert above == below == "-" * len(above) != ""
    return sentence


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, address: str) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "none"))
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION",
        str(write_kubeconfig(folder / "kubeconfig", address)),
    )


@pytest.mark.parametrize("which", [RUN, "717d", "latest"])
def test_a_steps_log_is_that_of_its_container(server, pods, monkeypatch, tmp_path, capsys, which):
    asked: list[str] = []
    with serve_pods(pods, {SNAPSHOT: "first line\nÜbung 2\n"}, asked=asked) as address:
        use(monkeypatch, tmp_path, address)
        assert main(["logs", which, "snapshot"]) == 0
    said = capsys.readouterr()
    assert said.out == "first line\nÜbung 2\n"
    assert f"== snapshot: pod {SNAPSHOT}, Succeeded" in said.err
    assert asked[0].startswith("/api/v1/namespaces/kubeflow/pods?")


def test_drivers_and_other_steps_are_left_out(server, pods, monkeypatch, tmp_path, capsys):
    driver = copy.deepcopy(pods[0])
    driver["metadata"] |= {"name": "driver"}
    driver["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = "proto-mmmrl(0).root(0).snapshot-driver(0)"
    train = copy.deepcopy(pods[0])
    train["metadata"] |= {"name": "train-pod", "creationTimestamp": "2026-11-21T05:00:00Z"}
    train["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = "proto-mmmrl.root.train.executor"
    with serve_pods([train, driver, *pods], {SNAPSHOT: "snapped\n", "train-pod": "trained\n"}) as address:
        use(monkeypatch, tmp_path, address)
        assert main(["logs", RUN]) == 0
        assert capsys.readouterr().out == "snapped\ntrained\n"
        assert main(["logs", RUN, "train"]) == 0
        assert capsys.readouterr().out == "trained\n"


def test_a_pod_that_cannot_start_says_why_and_is_waited_for(server, pods, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(logs, "SECONDS_BETWEEN_LOOKS", 0.01)
    waiting = pods[0]
    done = copy.deepcopy(waiting["status"])
    reason = {"reason": "ImagePullBackOff", "message": "no such image"}
    waiting["status"] = {
        "phase": "Pending",
        "containerStatuses": [
            {
                "name": "main",
                "image": "x",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": reason},
            }
        ],
    }
    with serve_pods([waiting], {SNAPSHOT: "at last\n"}) as address:
        use(monkeypatch, tmp_path, address)
        assert main(["logs", RUN, "snapshot"]) == 0
        said = capsys.readouterr()
        assert said.out == ""
        assert "waiting: the image x cannot be pulled (ImagePullBackOff: no such image)" in said.err
        monkeypatch.setattr(logs.time, "sleep", lambda _: waiting.update(status=done))
        assert main(["logs", RUN, "snapshot", "--follow"]) == 0
        assert capsys.readouterr().out == "at last\n"


def test_when_the_pods_are_gone_sql_tells_the_reason_and_the_ui_has_the_log(server, monkeypatch, tmp_path, capsys):
    database = connect(f"sqlite:///{tmp_path / 'cluster.db'}")
    for step in ("snapshot", "train"):
        start_step(database, RUN, step, category="desk", code="x-1", code_digest="0" * 64, parameters={})
    end_step(database, RUN, "snapshot", "done")
    end_step(database, RUN, "train", "failed", "SightlineError: the loss is not a number")
    with serve_pods([], {}) as address:
        use(monkeypatch, tmp_path, address)
        assert main(["logs", RUN]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == ["snapshot: done", "-" * 80]
    assert said.out.count("the loss is not a number") == 1
    assert framed(said.out) == "reason: train failed: the loss is not a number"
    assert "are gone" in said.err
    assert f"executor-logs: {server.url}/#/runs/details/{RUN}" in said.err


@pytest.mark.parametrize(
    ("status", "sentence"), [(403, "does not let this account read pods"), (500, "Kubernetes refuses (500)")]
)
def test_a_cluster_that_refuses_is_told_and_the_ui_named(server, monkeypatch, tmp_path, capsys, status, sentence):
    with serve_pods([], {}, status) as address:
        use(monkeypatch, tmp_path, address)
        assert main(["logs", RUN]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert "executor-logs" in said


def test_a_cluster_that_is_nowhere(server, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main(["logs", RUN]) == 1
    assert "Set KUBECONFIG, as for kubectl" in capsys.readouterr().err
    with closed_port() as port:
        use(monkeypatch, tmp_path, f"http://{HOST}:{port}")
        assert main(["logs", RUN]) == 1
    assert "Kubernetes cannot be reached" in capsys.readouterr().err


def test_the_log_of_a_run_on_this_laptop_is_its_file(server, tmp_path, capsys):
    database = connect(f"sqlite:///{tmp_path / 'cluster.db'}")
    start_step(database, "20261121-0858", "train", category="desk", code="x", code_digest="0" * 64, parameters={})
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "20261121-0858.log").write_text("all of it\n")
    assert main(["logs", "2026", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "all of it\n"


LAPTOPS = """\
\x1b[0m00:52:10.005 - INFO - Running pipeline: \x1b[95m'sightline'\x1b[0m
----------------------------------------
00:52:10.012 - INFO - Executing task \x1b[96m'snapshot'\x1b[0m
00:52:10.014 - INFO - Streamed logs:

    [KFP Executor 2026-11-27 00:52:10,207 INFO]: Looking for component `snapshot` in --component_module_path `/tmp/x.py`
    [KFP Executor 2026-11-27 00:52:10,210 INFO]: Got executor_input:
    {
        "inputs": {
            "parameterValues": {"epochs": 60}
        }
    }
    2026-11-27 00:52:15,443 snapshot code fa776e6faf95b142
00:52:15.962 - INFO - Task \x1b[96m'snapshot'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
----------------------------------------
00:52:15.972 - INFO - Executing task \x1b[96m'train'\x1b[0m
    Traceback (most recent call last):
      File "loop.py", line 1
    2026-11-27 00:52:39,546 train epoch 1/60, Executing task 'test'
"""
"""As kfp's local runner writes it."""
OF_TRAIN = """\
00:52:15.972 - INFO - Executing task 'train'
Traceback (most recent call last):
  File "loop.py", line 1
2026-11-27 00:52:39,546 train epoch 1/60, Executing task 'test'
"""


@pytest.fixture
def laptops_run(server, tmp_path) -> str:
    run = "20261127-005208-4770"
    database = connect(f"sqlite:///{tmp_path / 'cluster.db'}")
    start_step(database, run, "train", category="desk", code="x", code_digest="0" * 64, parameters={})
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"{run}.log").write_text(LAPTOPS)
    return run


def test_a_step_of_a_run_on_this_laptop_is_its_part_of_the_log(laptops_run, tmp_path, capsys):
    assert main(["logs", laptops_run, "train", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out == OF_TRAIN
    assert main(["logs", laptops_run, "--workspace", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.endswith(OF_TRAIN)
    assert "\nTask" not in said and "finished with status SUCCESS\n" in said
    assert "\n2026-11-27 00:52:15,443 snapshot code fa776e6faf95b142\n" in said
    assert not [word for word in ("\x1b", "parameterValues", "Got executor_input", "Looking for") if word in said]
    assert main(["logs", laptops_run, "--raw", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out == LAPTOPS


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("trian", "trian is not a step in the run 20261127-005208-4770 of this laptop. Did you mean 'train'?"),
        ("test", "test never began in the run 20261127-005208-4770 of this laptop. Its steps: snapshot, train."),
    ],
)
def test_a_step_that_a_run_on_this_laptop_does_not_have(laptops_run, tmp_path, capsys, step, told):
    assert main(["logs", laptops_run, step, "--workspace", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err


def test_a_run_must_be_one(server, capsys):
    twin = "717dc8a3-0000-4280-9828-8761873bf1aa"
    server.runs[twin] = server.runs[RUN] | {"run_id": twin}
    for which, sentence in (("717", "begins several runs: "), ("zzz", "zzz begins no run's id")):
        assert main(["logs", which]) == 1
        assert sentence in capsys.readouterr().err
