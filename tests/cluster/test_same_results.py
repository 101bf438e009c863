"""One dataset and one config trained four ways: `local`, in containers, in pods as Kubeflow makes them, as a trial of Katib."""

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.parameters import PARAMETERS
from laptop.samples import make_plates
from sightline.services.storage.access import open_storage
from tests.cluster.conftest import REGISTRY, TAG
from tests.cluster.deployed import Deployed, deployed
from tests.cluster.kfp_pod import CompiledPipeline, Outcome, run_task
from tests.cluster.test_containers import Laptop
from tests.mariadb import new_database
from tests.services import EMULATOR_SETTINGS, make_bucket
from tests.workspace import REPOSITORY, copy_checkout

pytestmark = pytest.mark.slow

IMAGES, SEED = 12, 2
"""With this seed each split gets some of them."""
CONFIG = "mask_rcnn_r18_small"
SETTINGS = {"num_workers": 0, "val_interval": 1}
PUBLISH = ("publish", "--category=plates", "--version=v0.1.0")
LOCAL = (
    "local",
    "--category",
    "plates",
    "--steps",
    "record,train,evaluate",
    "--config",
    CONFIG,
    "--epochs",
    "1",
    "--recipe",
    f"seed={SEED}",
)
OF_THE_RUN = ("uri", "run", "code")
"""Where a bundle lies, and who made it: another place, run and step each."""
ROUNDING = 1e-3
"""Relative; other numbers of threads add up in another order."""

Results = dict[str, Any]
"""File below a run's results -> its content."""


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plates")
    make_plates(folder, IMAGES, seed=7, labels="board", size=(320, 240))
    return folder


def results(storage: str, run: str) -> Results:
    """What a run left as JSON."""
    place = open_storage(storage)
    prefix = f"results/plates/v0.1.0/{run}"
    found: Results = {}
    for item in place.list(prefix):
        name = item.key.removeprefix(f"{prefix}/")
        if name.endswith(".json"):
            found[name] = json.loads(place.read_bytes(item.key))
        elif name.endswith(".jsonl"):
            found[name] = [json.loads(line) for line in place.read_bytes(item.key).splitlines()]
    return found


def on_a_laptop(folder: Path, plates: Path, *options: str) -> Results:
    laptop = Laptop(folder, {})
    copy_checkout(folder / "checkout")
    status, output, errors = laptop.run(PUBLISH[0], str(plates), *PUBLISH[1:])
    assert status == 0, output + errors
    words = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    status, output, errors = laptop.run(*LOCAL, *words, *options)
    assert status == 0, output + errors
    run = json.loads((laptop.workspace / "last_run.json").read_text())["run"]
    return results((laptop.workspace / "storage").as_uri(), run)


@pytest.fixture(scope="module")
def local(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return on_a_laptop(tmp_path_factory.mktemp("local"), plates)


@pytest.fixture(scope="module")
def docker(images: dict[str, str], plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return on_a_laptop(tmp_path_factory.mktemp("docker"), plates, "--runner", "docker", "--tag", TAG)


@pytest.fixture(scope="module")
def on_the_cluster(
    cluster: Path,
    images: dict[str, str],
    mariadb_server: str,
    gcs_emulator: str,
    plates: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Results]:
    """What the pods of a run left, and what a trial did."""
    folder = tmp_path_factory.mktemp("cluster")
    storage = f"gs://{make_bucket(gcs_emulator)}/team"
    config = {"SIGHTLINE_STORAGE": storage, "STORAGE_EMULATOR_HOST": gcs_emulator, **EMULATOR_SETTINGS}
    with new_database(mariadb_server) as url, deployed(cluster, folder / "overlay", url, config) as here:
        here.kube.run("cp", str(plates), f"{here.helper_pod()}:/tmp/plates")
        here.helper("python", "/opt/sightline/pipeline.py", PUBLISH[0], "/tmp/plates", *PUBLISH[1:])
        run = _run_pods(here, folder / "pipeline.yaml")
        # Else the trial would find that this very model has been trained.
        here.helper("rm", "-r", "/shared_volume/work")
        trial = _run_trial(here)
        return {"pods": results(storage, run), "trial": results(storage, trial)}


def _run_pods(here: Deployed, path: Path) -> str:
    command = [sys.executable, "pipeline.py", "compile", "-o", str(path), f"--registry={REGISTRY}", f"--tag={TAG}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    given = {"category": "plates", "config": CONFIG, "overrides": SETTINGS, "epochs": 1, "recipe": {"seed": SEED}}
    names = {each.to[step]: each.name for each in PARAMETERS for step in ("snapshot", "train") if step in each.to}
    pipeline = CompiledPipeline.load(path, **{names[argument]: value for argument, value in given.items()})
    run, outcomes = str(uuid.uuid4()), dict[str, Outcome]()
    for task in ("snapshot", "record", "train", "evaluate"):
        outcomes[task] = run_task(here.kube, pipeline, task, outcomes, run)
        assert outcomes[task].phase == "Succeeded", outcomes[task].log
    return run


def _run_trial(here: Deployed) -> str:
    """The pod of the experiment's manifest, with another config than the search's."""
    name = f"trial-{uuid.uuid4().hex[:8]}"
    template = yaml.safe_load((REPOSITORY / "manifests" / "katib" / "experiment.yaml").read_text())["spec"][
        "trialTemplate"
    ]
    spec = template["trialSpec"]["spec"]["template"]["spec"] | {"hostNetwork": True}
    (container,) = spec["containers"]
    words = [word for word in container["command"] if not word.startswith(("--config", "--epochs", "--set"))]
    given = [f"--config={CONFIG}", "--epochs=1", *(f"--set={key}={value}" for key, value in SETTINGS.items())]
    container |= {"command": [*words, *given], "image": f"{REGISTRY}/sightline-train:{TAG}"}
    text = json.dumps(spec).replace("${trialParameters.name}", name)
    assert "${" not in text
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": json.loads(text)}
    here.kube.apply(pod)
    assert here.kube.wait_for_pod(name, 300) == "Succeeded", here.kube.logs(name)
    return name


def same(one: Any, other: Any, at: str) -> None:
    """Fail at the first place where two JSON values differ by more than what tells runs apart, and rounding."""
    if isinstance(one, Mapping):
        assert one.keys() == other.keys(), at
        for key in one.keys() - set(OF_THE_RUN):
            same(one[key], other[key], f"{at}: {key}")
    elif isinstance(one, list):
        assert len(one) == len(other), at
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            same(first, second, f"{at}: {index}")
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=ROUNDING, abs=ROUNDING), at
    elif isinstance(one, str) and re.search(r"[0-9a-f]{64}", one):
        assert re.fullmatch(r"(models/)?[0-9a-f]{64}", other), at  # of weights, which rounding changes
    else:
        assert one == other, at


def test_a_training_leaves_the_same_json_however_it_was_started(
    local: Results, docker: Results, on_the_cluster: dict[str, Results]
) -> None:
    ours = {name: content for name, content in local.items() if name.startswith("train/")}
    assert ours.keys() == {"train/best.json", "train/last.json", "train/logs/history.jsonl"}
    for way, left in {"docker": docker, **on_the_cluster}.items():
        assert {name for name in left if name.startswith("train/")} == ours.keys(), way
        for name, content in ours.items():
            same(content, left[name], f"{way}: {name}")
        for name in ("train/best.json", "train/last.json"):
            assert left[name]["run"] != ours[name]["run"]
            assert left[name]["uri"].endswith(left[name]["bundle"]), way


def test_a_run_leaves_the_same_json_on_a_laptop_in_containers_and_in_pods(
    local: Results, docker: Results, on_the_cluster: dict[str, Results]
) -> None:
    assert local.keys() > {"record/statistics.json", "evaluate/selected.json", "evaluate/predictions.json"}
    for way, left in {"docker": docker, "pods": on_the_cluster["pods"]}.items():
        assert left.keys() == local.keys(), way
        for name in ("record/statistics.json", "evaluate/selected.json"):
            same(local[name], left[name], f"{way}: {name}")
