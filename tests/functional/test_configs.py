"""Every config that we ship: its data pipeline, a step of training, a prediction; on the CPU, at small sizes."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from sightline.models.config import load_config
from sightline.tasks.detection.fit import build_model, register
from sightline.tasks.detection.predict import predictor_of

CONFIGS = Path(__file__).resolve().parents[2] / "shared_volume" / "configs"
CLASSES = ["circle", "square", "mask"]
PHOTOS = {
    "train_pipeline.2.scale": (96, 96),
    "train_pipeline.3.crop_size": (96, 96),
    "test_pipeline.1.scale": (96, 96),
}
SMALL = {
    "mask_rcnn_lite0": PHOTOS,
    "mask_rcnn_r18_small": PHOTOS,
    "mask_rcnn_swin_small": PHOTOS,
    "mask_rcnn_swin_t": {
        "train_pipeline.2.scales": [(96, 72), (104, 80)],
        "test_pipeline.1.scale": (96, 96),
        "model.train_cfg.rpn_proposal": {"nms_pre": 200, "max_per_img": 100},
        "model.train_cfg.rcnn.sampler.num": 64,
        "model.test_cfg.rpn": {"nms_pre": 200, "max_per_img": 100},
        "model.test_cfg.rcnn.max_per_img": 10,
    },
    "yolox_s": {
        "train_dataset_wrapper.pipeline.0.img_scale": (128, 128),
        "train_dataset_wrapper.pipeline.4.scale": (128, 128),
        "test_pipeline.1.scale": (128, 128),
    },
    "rtmdet_ins_tiny": {
        "train_pipeline.2.scale": (160, 160),
        "train_pipeline.3.crop_size": (160, 160),
        "train_pipeline.6.size": (160, 160),
        "test_pipeline.1.scale": (160, 160),
        "test_pipeline.2.size": (160, 160),
    },
}


def test_training_does_not_stop_early_unless_asked():
    """README: early stopping is off."""
    for name in SMALL:
        config = load_config(CONFIGS / f"{name}.py", {}, CLASSES)
        assert config.early_stopping.patience == 0, name


def test_every_config_is_tried_here():
    assert sorted(SMALL) == sorted(path.stem for path in CONFIGS.glob("*.py") if "task =" not in path.read_text())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Four small images: polygons, a run-length mask, and one image without objects."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "images").mkdir()
    images, annotations = [], []
    for number in range(1, 5):
        pixels = np.random.default_rng(number).integers(0, 255, (120, 160, 3), dtype=np.uint8)
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), pixels)
        images.append({"id": number, "file_name": name, "width": 160, "height": 120})
        if number < 4:
            blob = np.zeros((120, 160), dtype=np.uint8, order="F")
            blob[70:110, 90:140] = 1
            encoded = coco_mask.encode(blob)
            run_lengths = {"size": [120, 160], "counts": encoded["counts"].decode()}
            polygon = [[20.0, 20, 60, 20, 60, 70, 20, 70]]
            shapes = [(1, [20, 20, 40, 50], polygon), (3, [90, 70, 50, 40], run_lengths)]
            annotations += [
                {"id": len(annotations) + index, "image_id": number, "category_id": category, "iscrowd": 0}
                | {"bbox": box, "area": box[2] * box[3], "segmentation": segmentation}
                for index, (category, box, segmentation) in enumerate(shapes, 1)
            ]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(truth))
    return folder


def train_samples(config, folder):
    """The training dataset that the config describes."""
    register()
    from mmdet.registry import DATASETS

    inner = {
        "type": "CocoDataset",
        "ann_file": str(folder / "train.json"),
        "data_prefix": {"img": str(folder / "images")},
        "metainfo": {"classes": CLASSES},
        "filter_cfg": {"filter_empty_gt": False},
        "pipeline": config.train_pipeline,
    }
    wrapper = config.train_dataset_wrapper
    return DATASETS.build({**wrapper, "dataset": inner} if wrapper else inner)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_config_trains_and_predicts(name, dataset):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  the transforms of mmcv and mmdet draw from it
    config = load_config(CONFIGS / f"{name}.py", SMALL[name], CLASSES)
    model = build_model(config)
    model.init_weights()
    samples = train_samples(config, dataset)
    assert len(samples) == 4
    chosen = [samples[index] for index in (0, 3)]  # with objects, and without
    batch = model.data_preprocessor(
        {key: [sample[key] for sample in chosen] for key in ("inputs", "data_samples")}, training=True
    )
    assert len(batch["data_samples"][0].gt_instances) >= 1
    emptied = copy.deepcopy(batch["data_samples"])
    loss, terms = model.parse_losses(model.train()(**batch, mode="loss"))
    loss.backward()
    assert torch.isfinite(loss)
    # Classification, boxes and (where there are) masks: each part of the model learns.
    heads = [module for key, module in model.named_modules() if key.endswith(("_head", "neck", "backbone"))]
    for head in heads:
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in head.parameters()), head
    # A batch of backgrounds alone, as datasets with negatives have them.
    for sample in emptied:
        sample.gt_instances = sample.gt_instances[:0]
    model.zero_grad()
    background, _ = model.parse_losses(model(batch["inputs"], emptied, mode="loss"))
    background.backward()
    assert torch.isfinite(background) and background > 0
    assert all(weight.grad is None or torch.isfinite(weight.grad).all() for weight in model.parameters())
    image = np.random.default_rng(0).integers(0, 255, (90, 140, 3), dtype=np.uint8)
    results = predictor_of(model, config, CLASSES).results(image, 1)
    assert all(len(one["bbox"]) == 4 and one["category_id"] in {1, 2, 3} for one in results)
    assert not results or ("segmentation" in results[0]) == (name != "yolox_s")
    assert all(one["segmentation"]["size"] == [90, 140] for one in results if "segmentation" in one)


def test_annotations_of_the_default_are_loaded_whole(dataset):
    config = load_config(CONFIGS / "mask_rcnn_r18_small.py", {}, CLASSES)
    plain = [
        step
        for step in config.train_pipeline
        if step["type"] in {"LoadUprightImage", "LoadAnnotations", "LoadOutlines"}
    ]
    config.train_pipeline = [*plain, {"type": "PackDetInputs"}]
    sample = train_samples(config, dataset)[0]["data_samples"].gt_instances
    assert sample.labels.tolist() == [0, 2]
    assert sample.bboxes.tensor.tolist() == [[20, 20, 60, 70], [90, 70, 140, 110]]
    assert sample.masks.masks.sum((1, 2)).tolist() == [40 * 50, 50 * 40]
