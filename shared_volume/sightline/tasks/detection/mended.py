"""What of mmdet does not work as it was released, mended once it is imported."""

from typing import Any

from mmdet.models.dense_heads import SSDHead
from mmdet.models.roi_heads.mask_heads import fcn_mask_head
from torch import Tensor

_paste = fcn_mask_head._do_paste_mask


def mend() -> None:
    """Mend what stops models that mmdet ships."""
    # Before it predicts, every dense head is asked what its classification loss wants; SSD's computes that without an object.
    if not hasattr(SSDHead, "loss_cls"):
        SSDHead.loss_cls = None
    fcn_mask_head._do_paste_mask = _paste_within


def _paste_within(masks: Tensor, boxes: Tensor, img_h: int, img_w: int, skip_empty: bool = True) -> Any:
    """mmdet's `_do_paste_mask`, which fails for boxes that lie wholly beside the image; of these nothing is painted."""
    if skip_empty:
        starts = (boxes[:, :2].min(dim=0).values.floor() - 1).clamp(min=0)
        ends = (boxes[:, 2:].max(dim=0).values.ceil() + 1).minimum(boxes.new_tensor([img_w, img_h]))
        if bool((starts >= ends).any()):
            return masks.new_zeros(len(masks), 0, 0), (slice(0, 0), slice(0, 0))
    return _paste(masks, boxes, img_h, img_w, skip_empty)
