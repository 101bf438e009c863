"""Part facts: plain data that steps, reports and the laptop's commands know; `tasks/task.py: Facts` says what each is."""

CONFIG = "mask_rcnn_lite0"
SELECT_BY = "bbox_mAP"
_AP, _AR = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"), ("AR_1", "AR_10", "AR_100", "AR_s", "AR_m", "AR_l")
NAMES = tuple(f"{kind}_{name}" for kind in ("bbox", "segm") for name in (*_AP, *_AR))  # of masks where a model has some
HEADLINES = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "segm_mAP", "segm_mAP_50", "segm_mAP_75")
SHORTEST = ("bbox_mAP", "segm_mAP")
CHARTS = {
    "bbox_AR*": "Boxes: average recall",
    "segm_AR*": "Masks: average recall",
    "bbox_*_[sml]": "Boxes: AP by object size",
    "segm_*_[sml]": "Masks: AP by object size",
    "bbox_*": "Boxes: average precision",
    "segm_*": "Masks: average precision",
}
ANNOTATED = "object"
FOUND = "detection"
