"""Part facts: plain data that steps, reports and the laptop's commands know of detection."""

CONFIG = "mask_rcnn_r18_small"
"""The config when none is named."""
SELECT_BY = "bbox_mAP"
"""The metric that selects when none is named."""
NAMES = tuple(
    f"{kind}_{name}"
    for kind in ("bbox", "segm")
    for name in (
        "mAP",
        "mAP_50",
        "mAP_75",
        "mAP_s",
        "mAP_m",
        "mAP_l",
        "AR_1",
        "AR_10",
        "AR_100",
        "AR_s",
        "AR_m",
        "AR_l",
    )
)
"""Every metric that the task's scoring gives; those of masks where a model has some."""
HEADLINES = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "segm_mAP", "segm_mAP_50", "segm_mAP_75")
"""The metrics that are shown first, as far as a model has them."""
SHORTEST = ("bbox_mAP", "segm_mAP")
"""Those that stand for all others: in a line of the log, in a chart of classes."""
CHARTS = {
    "bbox_AR*": "Boxes: average recall",
    "segm_AR*": "Masks: average recall",
    "bbox_*_[sml]": "Boxes: AP by object size",
    "segm_*_[sml]": "Masks: AP by object size",
    "bbox_*": "Boxes: average precision",
    "segm_*": "Masks: average precision",
}
"""The charts of a training that show metrics, by patterns of their names."""
ANNOTATED = "object"
"""What one annotation is of."""
FOUND = "detection"
"""What one result is."""
