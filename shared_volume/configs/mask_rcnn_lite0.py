"""The default: boxes and masks from an EfficientNet-Lite0 that knows ImageNet, minutes on a CPU."""

_base_ = ["_base_/mask_rcnn_small.py", "_base_/photos_320.py", "_base_/schedule_24_epochs.py", "_base_/runtime.py"]

load_from = "lite0"
model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(type="EfficientNetLite", out_indices=(1, 2, 4, 6), frozen_stages=0, norm_eval=True),
    neck=dict(in_channels=[24, 40, 112, 320]),
    # Three quarters of the proposals' work would be at stride 4, for objects of 16 pixels; masks are cut out there all the same.
    rpn_head=dict(type="CoarseRPNHead", anchor_generator=dict(strides=[8, 16, 32, 64])),
)
