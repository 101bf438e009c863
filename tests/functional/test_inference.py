"""Detectors from bundles: the same results as mmdet's own inference, in pixels of the given image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from sightline.errors import SightlineError
from sightline.models.bundle import BundleError, write_bundle
from sightline.models.config import config_text, load_config
from sightline.tasks.detection.draw import shown_of
from sightline.tasks.detection.fit import build_model, register
from sightline.tasks.detection.predict import load_predictor, predictor_of
from sightline.tasks.detection.scoring import score

CONFIGS = Path(__file__).resolve().parents[2] / "shared_volume" / "configs"
CLASSES = ["cup", "fork"]
# Low thresholds: an untrained model then finds many things, with masks that are not empty.
LOW = {
    "mask_rcnn_r18_small": {"model.test_cfg.rcnn.score_thr": 0.0, "model.test_cfg.rcnn.mask_thr_binary": 0.2},
    "yolox_s": {"model.test_cfg.score_thr": 0.0},
    "rtmdet_ins_tiny": {"model.test_cfg.score_thr": 0.0, "model.test_cfg.mask_thr_binary": 0.48},
}


@pytest.fixture(scope="module", params=sorted(LOW))
def detector(request):
    """An untrained detector that finds many things."""
    torch.manual_seed(0)
    config = load_config(CONFIGS / f"{request.param}.py", LOW[request.param], CLASSES)
    model = build_model(config)
    model.init_weights()
    with torch.no_grad():
        for weight in model.parameters():  # a fresh head gives every place the same score
            weight += 0.05 * torch.randn_like(weight)
    return predictor_of(model, config, CLASSES)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 255, (150, 260, 3), dtype=np.uint8)


@pytest.mark.slow
def test_results_are_those_of_mmdets_own_inference(detector, image):
    from mmcv.transforms import Compose
    from mmdet.apis import inference_detector

    steps = [{"type": "mmdet.LoadImageFromNDArray"}, *detector.config.test_pipeline[1:]]
    detector.model.cfg = detector.config
    expected = inference_detector(detector.model, image, test_pipeline=Compose(steps)).pred_instances
    found = detector.results(image, 1)
    assert len(found) == len(expected) > 5
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (one["bbox"] for one in found)]
    np.testing.assert_array_equal(boxes, expected.bboxes.numpy())
    np.testing.assert_array_equal([one["score"] for one in found], expected.scores.numpy())
    np.testing.assert_array_equal([one["category_id"] - 1 for one in found], expected.labels.numpy())
    if "masks" in expected:
        decoded = np.stack([coco_mask.decode(one["segmentation"]) for one in found])
        assert decoded.any()
        np.testing.assert_array_equal(decoded, expected.masks.numpy())
    else:
        assert not any("segmentation" in one for one in found)


@pytest.mark.slow
def test_an_image_is_not_changed_and_its_neighbours_do_not_matter(detector, image):
    before = image.copy()
    other = np.zeros((400, 100, 3), dtype=np.uint8)
    alone = detector.results(image, 1)
    detector.results(other, 2)
    assert detector.results(image, 1) == alone
    np.testing.assert_array_equal(image, before)


@pytest.mark.slow
def test_a_threshold_leaves_out_lower_scores(detector, image):
    everything = detector.results(image, 1)
    scores = np.array([one["score"] for one in everything])
    threshold = float(np.median(scores))
    assert len(shown_of(everything, threshold)) == (scores >= threshold).sum() < len(everything)
    assert len(shown_of(everything, 1.1)) == 0


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4)])
def test_what_is_no_image_is_refused(detector, shape):
    with pytest.raises(SightlineError, match=r"height, width, 3"):
        detector.results(np.zeros(shape, dtype=np.uint8), 1)


@pytest.mark.slow
def test_a_loaded_bundle_predicts_what_its_model_did(detector, image, tmp_path):
    digest = write_bundle(
        tmp_path / "best", detector.model.state_dict(), config_text(detector.config), CLASSES, None, None, {}
    )
    loaded = load_predictor(tmp_path / "best", sha256=digest)
    assert loaded.classes == ("cup", "fork")
    assert loaded.results(image, 1) == detector.results(image, 1)
    with pytest.raises(BundleError):
        load_predictor(tmp_path / "best", sha256="0" * 64)


def test_validation_scores_come_without_a_prefix(tmp_path):
    register()
    from mmdet.registry import METRICS
    from mmengine.structures import InstanceData

    box = [10.0, 10, 30, 20]
    truth = {
        "images": [{"id": 7, "file_name": "a.png", "width": 60, "height": 50}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "bbox": box, "area": 600.0, "iscrowd": 0}
            | {"segmentation": [[10.0, 10, 40, 10, 40, 30, 10, 30]]}
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "fork"}],
    }
    path = tmp_path / "val.json"
    path.write_text(json.dumps(truth))
    masks = torch.zeros(1, 50, 60, dtype=torch.bool)
    masks[0, 10:30, 10:40] = True
    found = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 40, 30]]), scores=torch.tensor([0.9]), labels=torch.tensor([1]), masks=masks
    )
    metric = METRICS.build({"type": "SightlineCocoMetric", "ann_file": str(path), "score": score})
    metric.process({}, [{"img_id": 7, "ori_shape": (50, 60), "pred_instances": found}])
    scores = metric.evaluate(size=1)
    assert scores["bbox_mAP"] == pytest.approx(1.0)
    assert scores["segm_mAP"] == pytest.approx(1.0)
