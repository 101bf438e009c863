"""The compiled YAML against what a real KFP server does with it; nothing local would show a violation."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline_structure import structure_of
from tests.workspace import REPOSITORY, run_pipeline

GOLDEN = REPOSITORY / "tests" / "golden" / "sightline.yaml"
STEPS = ("snapshot", "record", "train", "evaluate", "test")
MODEL_STEPS = ("train", "evaluate", "test")
OLDEST_SERVERS_LIMIT = 10_000
"""Bytes of all parameters together that KFP servers before 2.17 take."""

Documents = tuple[dict[str, Any], dict[str, Any]]


def compile_to(path: Path, *options: str, **environment: str) -> Path:
    done = run_pipeline("compile", "-o", str(path), *options, environment=environment)
    assert done.returncode == 0, done.stderr
    return path


def documents(path: Path) -> Documents:
    """The pipeline and its Kubernetes platform, as KFP's API server reads them."""
    pipeline, platforms = yaml.safe_load_all(path.read_text())
    return pipeline, platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_to(tmp_path_factory.mktemp("compiled") / "pipeline.yaml")


@pytest.fixture(scope="module")
def pipeline(compiled: Path) -> dict[str, Any]:
    return documents(compiled)[0]


@pytest.fixture(scope="module")
def platform(compiled: Path) -> dict[str, Any]:
    return documents(compiled)[1]


def containers(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    executors = pipeline["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def sources(pipeline: dict[str, Any]) -> str:
    return "\n".join(part for one in containers(pipeline).values() for part in one["command"] + one["args"])


def test_the_structure_is_the_one_that_was_looked_at(compiled: Path) -> None:
    """After a wanted change: tests/pipeline_structure.py says how the golden file is made anew."""
    assert structure_of(compiled) == structure_of(GOLDEN)


@pytest.mark.parametrize(
    "steps",
    [
        "record",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("train,evaluate,test", "evaluate", "test", "record,train")
        ),
    ],
)
def test_part_of_the_steps_compiles_to_tasks_whose_missing_inputs_are_parameters(tmp_path: Path, steps: str) -> None:
    pipeline, platform = documents(compile_to(tmp_path / "part.yaml", "--steps", steps))
    tasks = pipeline["root"]["dag"]["tasks"]
    assert set(tasks) == {"snapshot", *steps.split(",")}
    assert {f"exec-{name}" for name in tasks} == set(platform)
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert [name for name, one in parameters.items() if "defaultValue" not in one] == []
    assert ("dataset_version" in parameters) == ("record" not in steps)
    assert ("test_model" in parameters) == (steps == "test")
    sized = {step for step in STEPS if any(name.startswith(f"{step}_memory") for name in parameters)}
    assert sized == set(steps.split(","))


def test_the_same_names_give_the_same_bytes_and_others_are_found_in_place(tmp_path: Path) -> None:
    digests = tmp_path / "digests.json"
    digests.write_text(json.dumps({"data": "sha256:" + "a" * 64, "train": "sha256:" + "b" * 64}))
    options = (
        "--registry=registry.example/team", "--tag=v7", f"--digests={digests}", "--claim=our-claim", "--config-map=our-config",
        "--database-secret=our-database", "--git-secret=our-git", "--storage-secret=our-key", "--pull-secret=our-registry",
        "--shared-memory=3Gi",
    )  # fmt: skip
    first = compile_to(tmp_path / "first.yaml", *options)
    second = compile_to(tmp_path / "second.yaml", *options, PYTHONHASHSEED="7")
    assert first.read_bytes() == second.read_bytes()
    pipeline, platform = documents(first)
    images = {name: one["image"] for name, one in containers(pipeline).items()}
    assert images["record"] == f"registry.example/team/sightline-data:v7@sha256:{'a' * 64}"
    assert images["train"] == f"registry.example/team/sightline-train:v7@sha256:{'b' * 64}"
    for executor in platform.values():
        assert executor["pvcMount"][0]["constant"] == "our-claim"
        assert {one["configMapName"] for one in executor["configMapAsEnv"]} == {"our-config"}
        assert executor["secretAsEnv"][0]["secretName"] == "our-database"
        assert {one["secretName"] for one in executor["secretAsVolume"]} == {"our-git", "our-key"}
        assert executor["imagePullSecret"][0]["secretName"] == "our-registry"
    assert platform["exec-train"]["emptyDirMounts"][0]["sizeLimit"] == "3Gi"


# What every task has


@pytest.mark.parametrize("step", STEPS)
def test_a_task_has_resources_retries_a_time_out_the_claim_and_a_user(pipeline, platform, step) -> None:
    task, executor = pipeline["root"]["dag"]["tasks"][step], platform[f"exec-{step}"]
    resources = containers(pipeline)[step]["resources"]
    assert resources["resourceMemoryLimit"] and resources["resourceCpuLimit"] and resources["resourceCpuRequest"]
    assert task["retryPolicy"]["maxRetryCount"] >= 3
    assert task["retryPolicy"]["backoffDuration"] == "10s"
    assert int(executor["activeDeadlineSeconds"]) >= 3600
    assert executor["pvcMount"] == [
        {
            "constant": "sightline-volume",
            "mountPath": "/shared_volume",
            "pvcNameParameter": {"runtimeValue": {"constant": "sightline-volume"}},
        }
    ]
    assert executor["securityContext"] == {"runAsGroup": "1001", "runAsNonRoot": True, "runAsUser": "1001"}
    assert executor["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("step", STEPS)
def test_a_display_name_is_the_name_by_which_other_tasks_find_it(pipeline, step) -> None:
    """The driver files an execution under the display name, and looks for it under the task's."""
    assert pipeline["root"]["dag"]["tasks"][step]["taskInfo"]["name"] == step


@pytest.mark.parametrize("step", STEPS)
def test_settings_and_secrets_come_by_reference(platform, step) -> None:
    executor = platform[f"exec-{step}"]
    required = {
        pair["envVar"] for one in executor["configMapAsEnv"] if not one.get("optional") for pair in one["keyToEnv"]
    }
    assert required == {"SIGHTLINE_STORAGE", "SIGHTLINE_DATASET_REPO"}
    assert executor["secretAsEnv"][0]["keyToEnv"] == [{"envVar": "SIGHTLINE_DATABASE_URL", "secretKey": "url"}]
    assert all(one["optional"] for one in executor["secretAsVolume"]), "a cluster may have neither"
    assert executor["fieldPathAsEnv"] == [
        {"name": "SIGHTLINE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
    ], "a parameter that changes each run would defeat the cache"


def test_only_steps_that_load_data_in_processes_get_shared_memory(platform) -> None:
    mounts = {step: platform[f"exec-{step}"].get("emptyDirMounts", []) for step in STEPS}
    assert {step for step, mount in mounts.items() if mount} == set(MODEL_STEPS)
    assert mounts["train"] == [{"medium": "Memory", "mountPath": "/dev/shm", "sizeLimit": "1Gi", "volumeName": "shm"}]


# What a run may choose


def test_sizes_are_texts_since_the_driver_reads_a_number_as_nothing(pipeline) -> None:
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    sizes = {name: one for name, one in parameters.items() if re.fullmatch(r"[a-z]+_(cpu|memory|gpus)", name)}
    assert len(sizes) == 2 + 3 * len(MODEL_STEPS)
    assert {one["parameterType"] for one in sizes.values()} == {"STRING"}
    for step in MODEL_STEPS:
        resources = containers(pipeline)[step]["resources"]
        for field, kind in (("resourceMemoryLimit", "memory"), ("resourceCpuLimit", "cpu")):
            assert resources[field] == f"{{{{$.inputs.parameters['pipelinechannel--{step}_{kind}']}}}}"
        assert (
            resources["accelerator"]["resourceCount"] == f"{{{{$.inputs.parameters['pipelinechannel--{step}_gpus']}}}}"
        )


def test_where_pods_go_is_a_parameter_and_no_part_of_a_task_s_cache_key(pipeline, platform) -> None:
    for step in STEPS:
        executor = platform[f"exec-{step}"]
        assert executor["nodeSelector"] == {"nodeSelectorJson": {"componentInputParameter": "pod_node_selector"}}
        assert executor["tolerations"] == [{"tolerationJson": {"componentInputParameter": "pod_tolerations"}}]
        inputs = json.dumps(pipeline["root"]["dag"]["tasks"][step]["inputs"])
        assert "node_selector" not in inputs and "tolerations" not in inputs


def test_the_form_can_be_sent_as_it_is_and_stays_small(pipeline) -> None:
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert [name for name, one in parameters.items() if "defaultValue" not in one] == []
    assert len(json.dumps({name: one["defaultValue"] for name, one in parameters.items()})) < OLDEST_SERVERS_LIMIT / 4


# The cache


def test_snapshot_alone_is_never_cached(pipeline) -> None:
    tasks = pipeline["root"]["dag"]["tasks"]
    assert {step for step in STEPS if not tasks[step]["cachingOptions"].get("enableCache")} == {"snapshot"}


def test_no_task_takes_an_artifact_which_the_cache_would_tell_by_its_id(pipeline) -> None:
    for step, task in pipeline["root"]["dag"]["tasks"].items():
        assert "artifacts" not in task.get("inputs", {}), step


@pytest.mark.parametrize("step", [step for step in STEPS if step != "snapshot"])
def test_a_task_reads_its_code_and_data_by_name(pipeline, step) -> None:
    inputs = pipeline["root"]["dag"]["tasks"][step]["inputs"]["parameters"]
    assert inputs["code"]["taskOutputParameter"] == {
        "outputParameterKey": f"{step}_code",
        "producerTask": "snapshot",
    }
    if step != "record":
        assert inputs["dataset"]["taskOutputParameter"]["outputParameterKey"] == "dataset_reference"


# What the UI shows, what must not be in it


def test_every_artifact_has_a_name_of_its_own(pipeline) -> None:
    names = [
        name
        for component in pipeline["components"].values()
        for name in component.get("outputDefinitions", {}).get("artifacts", {})
    ]
    assert sorted(names) == [
        "confusion_matrix", "data_report", "dataset", "evaluation_report", "model", "predictions", "scores", "selected_model",
        "test_report", "training_report",
    ]  # fmt: skip


def test_nothing_is_installed_when_a_step_starts(pipeline) -> None:
    assert "pip" not in sources(pipeline).split()
    assert "pip install" not in sources(pipeline)


def test_there_is_no_exit_handler_in_which_size_parameters_break(pipeline) -> None:
    tasks = pipeline["root"]["dag"]["tasks"]
    assert [name for name, task in tasks.items() if "triggerPolicy" in task] == []
    assert [name for name, component in pipeline["components"].items() if "dag" in component] == []


def test_images_are_named_and_no_task_sets_an_environment_that_the_cluster_s_config_should_give(pipeline) -> None:
    images = {step: one["image"] for step, one in containers(pipeline).items()}
    assert images == {
        step: f"sightline/sightline-{'data' if step in ('snapshot', 'record') else 'train'}:latest" for step in STEPS
    }
    assert [step for step, one in containers(pipeline).items() if one.get("env")] == []


def test_kfp_loads_it(compiled: Path) -> None:
    from kfp import components

    assert components.load_component_from_file(str(compiled)).name == "sightline"


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_no_string_names_a_place_or_a_secret_of_the_compiling_machine(tmp_path: Path) -> None:
    planted = {
        "HOME": "/home/planted-home",
        "USER": "planted-user",
        "AWS_SECRET_ACCESS_KEY": "planted-key",
        "SIGHTLINE_DATABASE_URL": "mysql+pymysql://planted-user:planted-password@planted-host/planted",
        "SIGHTLINE_STORAGE": "gs://planted-bucket",
        "SIGHTLINE_DATASET_REPO": "https://planted-token@planted-host/planted.git",
        "GOOGLE_APPLICATION_CREDENTIALS": "/planted/key.json",
    }
    output = compile_to(tmp_path / "pipeline.yaml", **planted)
    text = output.read_text()
    assert "planted" not in text
    for place in (tmp_path, REPOSITORY, Path.cwd(), Path.home(), sys.prefix, os.uname().nodename):
        assert str(place) not in text
    absolute = {
        word for one in strings(list(documents(output))) for word in re.findall(r"(?<![\w$}.:/])/[\w./-]+", one)
    }
    assert {path for path in absolute if path.startswith(("/home", "/root", "/work", "/Users", "/opt"))} == set()


def test_a_digest_file_that_is_none_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "digests.json"
    wrong.write_text('{"data": "v1"}')
    done = run_pipeline("compile", "-o", str(tmp_path / "never.yaml"), "--digests", str(wrong))
    assert done.returncode == 1
    assert "make push" in done.stderr and str(wrong) in done.stderr
    assert not (tmp_path / "never.yaml").exists()


def test_kfp_s_own_compiler_gives_the_same_bytes(compiled: Path, tmp_path: Path) -> None:
    output = tmp_path / "pipeline.yaml"
    command = [Path(sys.executable).with_name("kfp"), "dsl", "compile", "--py", "pipeline.py", "--output", output]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == compiled.read_bytes()
