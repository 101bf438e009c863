"""Our training loop against a bare mmengine Runner: the same model, data and batches, in turns. At most 3 % slower.

Each side trains in a process of its own on generated licence plates, several times in turns; the fastest of each counts,
because whatever else the machine does only ever adds time.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "shared_volume")]

LIMIT = 0.03
IMAGES, EPOCHS, TURNS = 48, 3, 4


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        dataset_dir = make_dataset(Path(folder))
        seconds: dict[str, list[float]] = {"bare mmengine Runner": [], "sightline": []}
        for turn in range(TURNS):
            for side, times in seconds.items():
                command = [sys.executable, __file__, side, str(dataset_dir), str(Path(folder, f"{side[:4]}-{turn}"))]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                times.append(json.loads(output.splitlines()[-1]))
    for side, times in seconds.items():
        print(f"{side:<22} {min(times):6.2f} s (all: {', '.join(f'{each:.2f}' for each in times)})")
    slower = min(seconds["sightline"]) / min(seconds["bare mmengine Runner"]) - 1
    print(f"sightline is {slower:+.1%} (limit {LIMIT:+.0%})")
    return 0 if slower <= LIMIT else 1


def make_dataset(folder: Path) -> Path:
    from laptop.samples import make_plates
    from sightline.annotations.recipe import Recipe
    from sightline.services.versioning.shards import unpack
    from sightline.steps.record.build import build_dataset

    make_plates(folder / "plates", IMAGES, seed=0, labels="board", size=(320, 240))
    facts = {"category": "plates", "version": "v0.1.0", "annotation_version": "v0.1.0"}
    build_dataset(folder / "plates", folder / "packed", Recipe(), facts)
    unpack(folder / "packed", folder / "dataset")
    return folder / "dataset"


def train(side: str, dataset_dir: Path, folder: Path) -> float:
    """One side's seconds from the built runner to the end of its last epoch."""
    from sightline.processes.threads import set_thread_environment

    set_thread_environment()
    import torch

    from sightline.models.config import load_config, set_epochs
    from sightline.tasks.detection.fit import register

    register()
    classes = tuple(json.loads((dataset_dir / "dataset.json").read_text())["classes"])
    overrides = {"num_workers": 1, "val_interval": 1000}
    config = load_config(REPOSITORY / "shared_volume/configs/mask_rcnn_r18_small.py", overrides, classes)
    set_epochs(config, EPOCHS)
    if side == "sightline":
        from sightline.steps.train.compute import fit
        from sightline.steps.train.loop import Training
        from sightline.tasks.task import Task

        model = Task("detection"), config, dataset_dir, classes
        return fit(Training(*model, folder, "bbox_mAP", torch.device("cpu"), config.train_batch_size))[1]
    return train_bare(config, dataset_dir, classes, folder)


def train_bare(config, dataset_dir: Path, classes: tuple[str, ...], folder: Path) -> float:  # type: ignore[no-untyped-def]
    """mmengine's own loop, sampler, hooks and checkpoints, as mmdet's tools/train.py sets them up."""
    from mmengine.runner import Runner

    def loader(split: str, batch_size: int, pipeline: object, shuffle: bool) -> dict:
        return {
            "batch_size": batch_size,
            "num_workers": config.num_workers,
            "persistent_workers": True,
            "sampler": {"type": "DefaultSampler", "shuffle": shuffle},
            "dataset": {
                "type": "CocoDataset",
                "ann_file": str(dataset_dir / f"{split}.json"),
                "data_prefix": {"img": str(dataset_dir / "images")},
                "metainfo": {"classes": classes},
                "pipeline": pipeline,
                **({"filter_cfg": {"filter_empty_gt": True}} if shuffle else {"test_mode": True}),
            },
        }

    runner = Runner(
        model=config.model,
        work_dir=str(folder),
        train_dataloader=loader("train", config.train_batch_size, config.train_pipeline, True),
        train_cfg={"by_epoch": True, "max_epochs": config.max_epochs, "val_interval": 1000},
        optim_wrapper=config.optim_wrapper,
        param_scheduler=config.param_scheduler,
        val_dataloader=loader("val", 1, config.test_pipeline, False),
        val_cfg={},
        val_evaluator={"type": "CocoMetric", "metric": "bbox", "ann_file": str(dataset_dir / "val.json")},
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 2}},
        visualizer={"type": "DetLocalVisualizer", "vis_backends": [{"type": "TensorboardVisBackend"}]},
        randomness={"seed": 0},
        default_scope="mmdet",
        experiment_name="bare",
    )
    began = time.monotonic()
    runner.train()
    return time.monotonic() - began


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(train(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        sys.exit(main())
