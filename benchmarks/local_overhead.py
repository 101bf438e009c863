"""What `pipeline.py local` adds to each step: the step through kfp.local, and the same library call in a bare process.

At most 2 seconds a step.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT = 2.0  # seconds a step

DATASET = """
from sightline.services.versioning.datasets import find_dataset
from sightline.settings import read_settings
dataset = find_dataset(read_settings(), "plates", "").to_text()
"""
BARE = {
    "snapshot": """
from sightline.steps.snapshot.start import start_run
result = start_run("plates", config="mask_rcnn_r18_small", epochs=1, select_by="bbox_mAP")._asdict()
""",
    "record": """
from sightline.steps.record.record import record_dataset
recorded = record_dataset(state["record_code"], "plates", state["annotation_version"], state["annotation_commit"])
result = recorded.dataset.to_json()
""",
    "train": f"""{DATASET}
from sightline.steps.train.start import train_model
result = {{"model": train_model(state["train_code"], dataset, "mask_rcnn_r18_small", epochs=1).model.to_text()}}
""",
    "evaluate": f"""{DATASET}
from sightline.steps.evaluate.start import evaluate_models
result = {{"selected": evaluate_models("evaluate", dataset, state["model"]).selected.to_text()}}
""",
    "test": f"""{DATASET}
from sightline.steps.testing.start import test_model
result = test_model("test", "plates", dataset, model=state["selected"]).reference
""",
}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        photographs, ours, bare = Path(folder, "plates"), Path(folder, "ours"), Path(folder, "bare")
        pipeline("sample", str(photographs), "--images", "24", "--labels", "board")
        for workspace in (ours, bare):
            pipeline(
                "--workspace",
                str(workspace),
                "publish",
                str(photographs),
                "--category",
                "plates",
                "--version",
                "v0.1.0",
            )
        began = time.monotonic()
        pipeline("--workspace", str(ours), "local", "--category", "plates", "--epochs", "1")
        whole = time.monotonic() - began
        through_local = {
            step: facts["seconds"] for step, facts in json.loads((ours / "last_run.json").read_text())["steps"].items()
        }
        alone = bare_steps(bare)
    print(f"{'step':<10} {'local':>8} {'bare':>8} {'added':>8}")
    for step, seconds in alone.items():
        print(f"{step:<10} {through_local[step]:8.2f} {seconds:8.2f} {through_local[step] - seconds:+8.2f}")
    rest = whole - sum(through_local.values())
    print(f"around the steps: {rest:.2f} s")
    added = (whole - sum(alone.values())) / len(alone)
    print(f"added in all, per step: {added:+.2f} s (limit {LIMIT:+.0f} s)")
    return 0 if added <= LIMIT else 1


def pipeline(*arguments: str) -> None:
    subprocess.run([sys.executable, str(REPOSITORY / "pipeline.py"), *arguments], check=True, stdout=subprocess.DEVNULL)


def bare_steps(workspace: Path) -> dict[str, float]:
    """Each step's library call in a process of its own."""
    environment = os.environ | {
        "SIGHTLINE_STORAGE": (workspace / "storage").as_uri(),
        "SIGHTLINE_DATABASE_URL": f"sqlite:///{workspace / 'sightline.db'}",
        "SIGHTLINE_DATASET_REPO": str(workspace / "dataset.git"),
        "SIGHTLINE_VOLUME": str(workspace / "volume"),
        "SIGHTLINE_RUN": "bare",
        "PYTHONPATH": str(REPOSITORY / "shared_volume"),
    }
    seconds: dict[str, float] = {}
    state: dict[str, object] = {}
    for step, script in BARE.items():
        whole = f"import json, sys\nstate = json.loads(sys.argv[1])\n{script}\nprint(json.dumps(result))"
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", whole, json.dumps(state)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        seconds[step] = time.monotonic() - began
        state |= json.loads(done.stdout.splitlines()[-1])
    return seconds


if __name__ == "__main__":
    sys.exit(main())
