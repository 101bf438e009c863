"""A task's pod as Kubeflow Pipelines 2.17.0 makes it: a recorded pod, filled in from a compiled pipeline.

Left out: Argo's containers and KFP's launcher. A shell stands in for the launcher: it runs the executor's command with the
executor input and prints what the launcher would have uploaded.
"""

import base64
import copy
import io
import json
import re
import tarfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests.cluster.kube import Kube

RECORDED = Path(__file__).parents[1] / "data" / "kfp_server" / "pods.json"
ACCOUNT = "pipeline-runner"
OUTPUTS = PurePosixPath("/tmp/kfp/outputs")
BUCKET = "mlpipeline/v2/artifacts"
MARK = "== outputs =="
STAND_IN = f"""
"$@"; status=$?
printf '\\n{MARK}\\n'
tar -C / -cz $(cd / && ls -d tmp/kfp/outputs minio/mlpipeline 2>/dev/null) 2>/dev/null | base64 -w 0
exit $status
"""
ARGOS = re.compile("argo|token|minio-artifact", re.IGNORECASE)
PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task's pod left.

    Attributes:
        phase: Succeeded or Failed.
        log: of the container, without the outputs.
        parameters: output parameter -> its value.
        artifacts: output artifact -> its file's content.
        metadata: output artifact -> its metadata.
        pod: the pod as Kubernetes held it at the end.
    """

    phase: str
    log: str
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    pod: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompiledPipeline:
    """The two documents of a compiled pipeline, and a run's arguments on top of its defaults."""

    spec: dict[str, Any]
    platform: dict[str, Any]
    arguments: dict[str, Any]

    @classmethod
    def load(cls, path: Path, **arguments: Any) -> "CompiledPipeline":
        """Read a compiled YAML; refuses an argument that the pipeline does not have, as the server does."""
        spec, platform = yaml.safe_load_all(path.read_text())
        parameters = spec["root"]["inputDefinitions"]["parameters"]
        assert arguments.keys() <= parameters.keys()
        defaults = {name: each["defaultValue"] for name, each in parameters.items() if "defaultValue" in each}
        return cls(spec, platform["platforms"]["kubernetes"], defaults | arguments)

    def component(self, task: str) -> dict[str, Any]:
        """What a task's component takes and gives."""
        return self.spec["components"][self._task(task)["componentRef"]["name"]]

    def executor(self, task: str) -> dict[str, Any]:
        """A task's container."""
        return self.spec["deploymentSpec"]["executors"][self.component(task)["executorLabel"]]["container"]

    def on_kubernetes(self, task: str) -> dict[str, Any]:
        """What the platform's document says of a task."""
        return self.platform["deploymentSpec"]["executors"][self.component(task)["executorLabel"]]

    def inputs(self, task: str, done: Mapping[str, Outcome]) -> dict[str, Any]:
        """The values of a task's inputs: the run's arguments, constants, and outputs of the tasks before it."""
        return {
            name: self.value(each, done, self.arguments)
            for name, each in self._task(task)["inputs"]["parameters"].items()
        }

    def value(self, given: Mapping[str, Any], done: Mapping[str, Outcome], arguments: Mapping[str, Any]) -> Any:
        """What an input of the YAML stands for."""
        if "componentInputParameter" in given:
            return arguments[given["componentInputParameter"]]
        if "taskOutputParameter" in given:
            source = given["taskOutputParameter"]
            return done[source["producerTask"]].parameters[source["outputParameterKey"]]
        return given["runtimeValue"]["constant"]

    def _task(self, task: str) -> dict[str, Any]:
        return self.spec["root"]["dag"]["tasks"][task]


def run_task(
    kube: Kube,
    pipeline: CompiledPipeline,
    task: str,
    done: Mapping[str, Outcome] | None = None,
    run: str = "",
    seconds: float = 300,
    host_network: bool = True,
) -> Outcome:
    """Run one task's pod to its end.

    Args:
        kube: the namespace; holds the claim, the ConfigMap and the Secrets.
        pipeline: the compiled pipeline with the run's arguments.
        task: the task's name.
        done: outcomes of the tasks before it, by name.
        run: the run's id; empty for a new one.
        seconds: how long it may take.
        host_network: the tests' services listen on the machine itself; KFP's own pods have a network of their own.
    """
    pod = executor_pod(pipeline, task, done or {}, run or str(uuid.uuid4()))
    pod["spec"]["hostNetwork"] = host_network
    kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
    kube.apply(pod)
    name = pod["metadata"]["name"]
    phase = kube.wait_for_pod(name, seconds)
    return _outcome(phase, kube.logs(name, "main"), kube.get("pod", name))


def executor_pod(pipeline: CompiledPipeline, task: str, done: Mapping[str, Outcome], run: str) -> dict[str, Any]:
    """The pod of a task: the recorded one's frame, with this pipeline's container in it."""
    executor, inputs = pipeline.executor(task), pipeline.inputs(task, done)
    arguments = [
        json.dumps(executor_input(pipeline, task, inputs, run)) if each == "{{$}}" else each
        for each in executor["args"]
    ]
    pod = _recorded_frame()
    pod["metadata"]["name"] = f"{task}-{uuid.uuid4().hex[:8]}"
    pod["metadata"]["labels"] |= {"pipeline/runid": run}
    (main,) = pod["spec"]["containers"]
    main |= {
        "image": executor["image"],
        "command": ["sh", "-c", STAND_IN, "launcher", *executor["command"]],
        "args": arguments,
        "resources": _resources(executor.get("resources", {}), inputs),
    }
    _add_platform(pod["spec"], main, pipeline, task, inputs)
    return pod


def executor_input(pipeline: CompiledPipeline, task: str, inputs: Mapping[str, Any], run: str) -> dict[str, Any]:
    """What KFP's driver hands to the launcher, and the launcher to the executor."""
    outputs = pipeline.component(task).get("outputDefinitions", {})
    place = f"{BUCKET}/{pipeline.spec['pipelineInfo']['name']}/{run}/{task}/{uuid.uuid4()}"
    artifacts = {name: each["artifactType"] for name, each in outputs.get("artifacts", {}).items()}
    artifacts["executor-logs"] = {"schemaTitle": "system.Artifact"}
    return {
        "inputs": {"parameterValues": dict(inputs)},
        "outputs": {
            "parameters": {name: {"outputFile": str(OUTPUTS / name)} for name in outputs.get("parameters", {})},
            "artifacts": {
                name: {"artifacts": [{"name": name, "type": kind, "uri": f"minio://{place}/{name}", "metadata": {}}]}
                for name, kind in artifacts.items()
            },
            "outputFile": f"/minio/{place}/output_metadata.json",
        },
    }


def _recorded_frame() -> dict[str, Any]:
    recorded = json.loads(RECORDED.read_text())["executor"]
    spec = copy.deepcopy(recorded["spec"])
    (main,) = (each for each in spec["containers"] if each["name"] == "main")
    # The recorded pipeline's own mounts and environment go; KFP's stay.
    main["volumeMounts"] = [
        each
        for each in main["volumeMounts"]
        if each["name"] not in ("shared-volume", "shm") and not ARGOS.search(each["name"])
    ]
    main["env"] = [each for each in main["env"] if each["name"].startswith("KFP_")]
    mounted = {each["name"] for each in main["volumeMounts"]}
    kept = ("restartPolicy", "schedulerName", "securityContext", "terminationGracePeriodSeconds", "enableServiceLinks")
    labels = {name: text for name, text in recorded["metadata"]["labels"].items() if "completed" not in name}
    annotations = recorded["metadata"]["annotations"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {name: spec[name] for name in kept}
        | {
            "serviceAccountName": ACCOUNT,
            "containers": [main],
            "volumes": [each for each in spec["volumes"] if each["name"] in mounted],
        },
    }


def _resources(given: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Limits and requests, with the run's parameters in them; of no accelerators the limit is 0, which any node can meet."""

    def text(key: str) -> str:
        return PARAMETER.sub(lambda match: str(inputs[match.group(1)]), str(given.get(key, "")))

    limits = {"cpu": text("resourceCpuLimit"), "memory": text("resourceMemoryLimit")}
    accelerator = given.get("accelerator", {})
    if accelerator:
        count = PARAMETER.sub(lambda match: str(inputs[match.group(1)]), str(accelerator["resourceCount"]))
        limits[accelerator["resourceType"]] = count
    requests = {"cpu": text("resourceCpuRequest"), "memory": text("resourceMemoryRequest")}
    return {
        "limits": {name: value for name, value in limits.items() if value},
        "requests": {name: value for name, value in requests.items() if value},
    }


def _add_platform(
    spec: dict[str, Any], main: dict[str, Any], pipeline: CompiledPipeline, task: str, inputs: Mapping[str, Any]
) -> None:
    """What the driver adds to a pod from the platform's document."""
    given = pipeline.on_kubernetes(task)
    known = {
        "activeDeadlineSeconds", "configMapAsEnv", "emptyDirMounts", "fieldPathAsEnv", "imagePullPolicy", "imagePullSecret",
        "nodeSelector", "pvcMount", "secretAsEnv", "secretAsVolume", "securityContext", "tolerations",
    }  # fmt: skip
    assert given.keys() <= known, f"teach {__name__} what KFP makes of {given.keys() - known}"

    def value(each: Mapping[str, Any]) -> Any:
        return pipeline.value(each, {}, {**pipeline.arguments, **inputs})

    for key, kind in (("configMapAsEnv", "configMap"), ("secretAsEnv", "secret")):
        for each in given.get(key, []):
            name = value(each[f"{kind}NameParameter"])
            for pair in each["keyToEnv"]:
                reference = {"name": name, "key": pair[f"{kind}Key"], "optional": each["optional"]}
                main["env"].append({"name": pair["envVar"], "valueFrom": {f"{kind}KeyRef": reference}})
    for each in given.get("fieldPathAsEnv", []):
        main["env"].append({"name": each["name"], "valueFrom": {"fieldRef": {"fieldPath": each["fieldPath"]}}})
    for each in given.get("pvcMount", []):
        claim = value(each["pvcNameParameter"])
        _mount(spec, main, claim, each["mountPath"], {"persistentVolumeClaim": {"claimName": claim}})
    for each in given.get("secretAsVolume", []):
        name = value(each["secretNameParameter"])
        _mount(spec, main, name, each["mountPath"], {"secret": {"secretName": name, "optional": each["optional"]}})
    for each in given.get("emptyDirMounts", []):
        source = {"medium": each["medium"], "sizeLimit": each["sizeLimit"]}
        _mount(spec, main, each["volumeName"], each["mountPath"], {"emptyDir": source})
    user = given.get("securityContext", {})
    main["securityContext"] |= {name: int(text) if name != "runAsNonRoot" else text for name, text in user.items()}
    main["imagePullPolicy"] = given.get("imagePullPolicy", "Always")
    if "activeDeadlineSeconds" in given:
        spec["activeDeadlineSeconds"] = int(given["activeDeadlineSeconds"])
    if "imagePullSecret" in given:
        spec["imagePullSecrets"] = [{"name": value(each["secretNameParameter"])} for each in given["imagePullSecret"]]
    spec["nodeSelector"] = value(given["nodeSelector"]["nodeSelectorJson"]) if "nodeSelector" in given else {}
    spec["tolerations"] = [
        toleration for each in given.get("tolerations", []) for toleration in value(each["tolerationJson"])
    ]


def _mount(spec: dict[str, Any], main: dict[str, Any], name: str, path: str, source: Mapping[str, Any]) -> None:
    spec["volumes"].append({"name": name, **source})
    main["volumeMounts"].append({"name": name, "mountPath": path})


def _outcome(phase: str, log: str, pod: dict[str, Any]) -> Outcome:
    text, _, packed = log.rpartition(MARK)
    parameters: dict[str, Any] = {}
    artifacts: dict[str, bytes] = {}
    metadata: dict[str, dict[str, Any]] = {}
    if packed.strip():
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
            files = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]
        told = next((json.loads(data) for name, data in files.items() if name.endswith("/output_metadata.json")), {})
        parameters = told.get("parameterValues", {})
        metadata = {name: each["artifacts"][0].get("metadata", {}) for name, each in told.get("artifacts", {}).items()}
        artifacts = {
            PurePosixPath(name).name: data
            for name, data in files.items()
            if name.startswith("minio/") and not name.endswith("/output_metadata.json")
        }
    return Outcome(phase, text or log, parameters, artifacts, metadata, pod)
