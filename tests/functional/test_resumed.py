"""A training that goes on from another run's: the same as one without a break where it can be, and what it says of the rest."""

import json
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sightline.errors import SightlineError
from sightline.models.bundle import read_bundle
from sightline.publish.annotations import publish_annotations
from sightline.references import CheckpointReference, ModelReference
from sightline.services.database.connection import connect
from sightline.services.database.scores import find_model
from sightline.settings import read_settings
from sightline.steps.record.record import record_dataset
from sightline.steps.snapshot.start import Frozen, start_run
from tests.functional.test_promised import TINY
from tests.installed import install
from tests.live_code import copy_live
from tests.make_labelme import annotate, box, make_labelme
from tests.workspace import REPOSITORY, Installation, finished

CODE = REPOSITORY / "shared_volume"
TRAIN = """
import hashlib, json, os, sys
from pathlib import Path
from sightline.errors import SightlineError
from sightline.references import CheckpointReference
from sightline.services.runs.origins import bring_checkpoint, find_origin
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import read_settings
from sightline.steps.train.fit import train
from sightline.steps.train.request import TrainingRequest
def there():
    found = (path for path in read_settings().volume.glob("work/*/**/*") if path.is_file() and path.name != "lock")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
for job in json.loads(sys.argv[2]):
    os.environ["SIGHTLINE_RUN"] = job["run"]
    read_settings.cache_clear()
    settings, origin = read_settings(), None
    before, outcome = there(), {}
    dataset = find_dataset(settings, "plates", job["version"])
    try:
        if job["origin"]:
            handed_on = bring_checkpoint(find_origin(settings, job["origin"], "plates"), settings).to_text()
            origin = CheckpointReference.from_text(handed_on)
        asked = "mask_rcnn_r18_small", job["overrides"], job["epochs"], job["select_by"]
        model, report = train(TrainingRequest(Path(sys.argv[1]), dataset, *asked, origin=origin), "cpu")
        (settings.volume / f"{job['run']}.html").write_text(report)
        outcome["model"] = model.to_json()
    except SightlineError as error:
        outcome["error"] = str(error)
    after = there()
    outcome["touched"] = [path for path, digest in before.items() if after.get(path) != digest]
    print("RESULT", json.dumps(outcome), flush=True)
"""
# Batches of one rate: a longer schedule is the same where they overlap.
STEADY = {name: value for name, value in TINY.items() if "early" not in name} | {
    "num_workers": 0,
    "val_interval": 1,
    "param_scheduler": [],
    "checkpoint_seconds": 0,
}


def job(
    run: str, epochs: int, origin: str = "", version: str = "v0.1.0", select_by: str = "bbox_mAP", **overrides: Any
):
    values = STEADY | {key.replace("__", "."): value for key, value in overrides.items()}
    return {
        "run": run,
        "epochs": epochs,
        "origin": origin,
        "version": version,
        "select_by": select_by,
        "overrides": values,
    }


@dataclass(frozen=True)
class Ended:
    """What a job of the script left."""

    log: str
    touched: list[str]  # files of earlier work folders that it changed or removed
    error: str = ""
    model: ModelReference | None = None


def train(here: Installation, *jobs: dict[str, Any]) -> list[Ended]:
    """Train one after another in one process, which saves importing torch again."""
    output = finished(here.python(TRAIN, str(CODE), json.dumps(jobs)))
    logs = re.split(r"^RESULT (.*)\n", output, flags=re.MULTILINE)
    results = [json.loads(line) for line in logs[1::2]]
    return [
        Ended(
            log,
            each["touched"],
            each.get("error", ""),
            ModelReference.from_json(each["model"]) if "model" in each else None,
        )
        for log, each in zip(logs[::2], results, strict=False)
    ]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Recorded dataset versions: of 12 images, with 4 more, and with one class more."""
    folder = tmp_path_factory.mktemp("resumed")
    with pytest.MonkeyPatch.context() as environment:
        settings = install(folder / "here", environment).settings
        for version, count, label in (("v0.1.0", 12, "plug"), ("v0.2.0", 16, "plug"), ("v0.3.0", 12, "lamp")):
            drawn = make_labelme(folder / version, [f"{number}.png" for number in range(count)])
            annotate(drawn, "1.png", [box(label), box("switch", 28, 8, 44, 30)])
            commit = publish_annotations(settings, drawn, "plates", version).publication.row.commit
            record_dataset("/nowhere/record-0", "plates", version, str(commit), {"seed": 1})
    read_settings.cache_clear()
    return Installation(folder / "here", folder / "here" / "volume")


@pytest.fixture(scope="module")
def trained(installation: Installation) -> dict[str, Ended]:
    """`short` has two epochs, `whole` four, `more` two more than `short`; and what was refused beside them."""
    jobs = [
        job("short", 2),
        job("whole", 4),
        job("more", 4, "short"),
        job("few", 2, "short"),
        job("wide", 4, "short", model__backbone__base_channels=8),
        job("other", 4, "short", optim_wrapper__optimizer__type="RAdam"),
        job("classes", 4, "short", version="v0.3.0"),
    ]
    return dict(zip([each["run"] for each in jobs], train(installation, *jobs), strict=True))


def folder_of(here: Installation, run: str) -> Path:
    return next(path.parent for path in here.volume.glob("work/train-*/runs.txt") if run in path.read_text().split())


def history(here: Installation, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder_of(here, run) / "history.jsonl").read_text().splitlines()]


def weights(here: Installation, sha256: str | None) -> dict[str, bytes]:
    file = here.folder / "storage" / "models" / str(sha256) / "model.safetensors"
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}


def test_two_epochs_and_two_more_are_four_to_the_bit(installation: Installation, trained: dict[str, Ended]) -> None:
    whole, more = trained["whole"].model, trained["more"].model
    assert whole is not None and more is not None, trained["more"]
    assert history(installation, "more") == history(installation, "whole")
    assert weights(installation, more.last_sha256) == weights(installation, whole.last_sha256)
    assert weights(installation, more.sha256) == weights(installation, whole.sha256)
    assert more.metric_value == whole.metric_value


def test_the_folder_of_the_other_run_is_not_written_to(trained: dict[str, Ended]) -> None:
    assert {run: each.touched for run, each in trained.items() if each.touched} == {}


def test_what_came_of_it_is_said_by_bundle_sql_log_and_report(
    installation: Installation, trained: dict[str, Ended]
) -> None:
    short, more = trained["short"].model, trained["more"].model
    assert short is not None and more is not None
    facts = read_bundle(installation.folder / "storage" / "models" / more.sha256).facts
    row = find_model(connect(installation.environment()["SIGHTLINE_DATABASE_URL"]), more.uri)
    assert row is not None
    for said in (facts, vars(row), more.to_json()):
        assert (said["weights_origin"], said["parent_sha256"]) == ("run short, after epoch 2", short.last_sha256)
    report = (installation.volume / "more.html").read_text()
    assert "Went on from" in report and 'class="turn"' in report
    assert "max_epochs" in report.partition("Went on from")[2]
    assert "goes on from run short, after epoch 2, at iteration" in trained["more"].log
    assert "differs: max_epochs: 2 before, 4 now" in trained["more"].log


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("few", "The run short has trained 2 epochs, and 2 are asked for"),
        ("classes", "trained on the classes plug, switch, in this order, and the dataset has lamp, plug, switch"),
        ("wide", r"has other tensors: backbone\..*Use its config"),
        ("other", r"The optimizer differs from that of the run short \(AdamW and RAdam"),
    ],
)
def test_what_cannot_go_on_is_refused(trained: dict[str, Ended], run: str, message: str) -> None:
    assert re.search(message, trained[run].error), trained[run]


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_with_another_dataset_version_the_best_epoch_is_one_of_the_new_ones(
    installation: Installation,
) -> None:
    changed = {"train_batch_size": 4, "optim_wrapper__optimizer__lr": 0.002}
    (newer,) = train(installation, job("newer", 3, "short", version="v0.2.0", **changed))
    lines = history(installation, "newer")
    assert newer.model is not None, newer.error
    batches = {line["epoch"]: line["iter"] for line in lines if line["kind"] == "train"}
    assert [batches[epoch] / epoch for epoch in (1, 2, 3)] == [batches[1]] * 3, "as if all epochs had as many batches"
    assert [line["lr"] for line in lines if line["kind"] == "train" and line["epoch"] == 3][0] == 0.002
    assert [line["epoch"] for line in lines if line["kind"] == "val"] == [1, 2, 3]
    scores = [line["bbox_mAP"] for line in lines if line["kind"] == "val" and line["epoch"] > 1]
    assert newer.model.metric_value == max(scores)
    assert "differs: dataset version: v0.1.0 before, v0.2.0 now" in newer.log
    assert "which epoch is best is decided anew" in newer.log


@pytest.mark.usefixtures("trained")
def test_snapshot_hands_on_what_train_goes_on_from(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in installation.environment().items():
        if name.startswith("SIGHTLINE_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("SIGHTLINE_RUN", "run-9")
    read_settings.cache_clear()
    copy_live(installation.volume / "code")

    def snapshot(epochs: int, **others: str) -> Frozen:
        only_train = {"dataset_version": "v0.1.0", "record_follows": False, "dataset_follows": True}
        return start_run("plates", epochs=epochs, resume_from="sho", **only_train, **others)  # type: ignore[arg-type]

    reference = CheckpointReference.from_text(snapshot(4).weights_reference)
    facts = json.loads((installation.volume / "runs" / "run-9.json").read_text())
    assert (reference.run, facts["parameters"]["resume_from"]) == ("short", "short")
    assert facts["fetched"] == [reference.folder] and (installation.volume / reference.folder).is_dir()
    with pytest.raises(SightlineError, match="has trained 2 epochs, and 2 are asked for"):
        snapshot(2)
    with pytest.raises(SightlineError, match="--pretrained lite0 and --resume-from sho exclude each other"):
        snapshot(4, pretrained="lite0")
    read_settings.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("after", ["went_on.json", "checkpoints/iter_*.pth"])
def test_killed_and_started_again_it_is_the_same_to_the_bit(installation: Installation, after: str) -> None:
    """Each time with another learning rate, so that it is another training than the others."""
    rate = {"went_on.json": 0.003}.get(after, 0.004)
    jobs = [job(run, 4, "short", optim_wrapper__optimizer__lr=rate) for run in (f"killed-{rate}", f"unbroken-{rate}")]
    process = installation.python(TRAIN, str(CODE), json.dumps(jobs[:1]))
    for _ in range(4000):
        if [
            path for path in installation.volume.glob("work/*/runs.txt") if jobs[0]["run"] in path.read_text()
        ] and list(folder_of(installation, jobs[0]["run"]).glob(after)):
            break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (again,) = train(installation, jobs[0])
    assert again.model is not None, again.error
    assert ("resumed at iteration" in again.log) == ("checkpoints" in after)
    lines = history(installation, jobs[0]["run"])
    folder_of(installation, jobs[0]["run"]).rename(installation.volume / f"away-{rate}")
    (unbroken,) = train(installation, jobs[1])
    assert unbroken.model is not None and "resumed at iteration" not in unbroken.log
    assert history(installation, jobs[1]["run"]) == lines
    for moment in ("sha256", "last_sha256"):
        models = [getattr(each.model, moment) for each in (again, unbroken)]
        assert weights(installation, models[0]) == weights(installation, models[1])
