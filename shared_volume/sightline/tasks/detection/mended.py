"""What of mmdet does not work as it was released, mended once it is imported."""

from mmdet.models.dense_heads import SSDHead


def mend() -> None:
    """Mend what stops models that mmdet ships."""
    # Before it predicts, every dense head is asked what its classification loss wants; SSD's computes that without an object.
    if not hasattr(SSDHead, "loss_cls"):
        SSDHead.loss_cls = None
