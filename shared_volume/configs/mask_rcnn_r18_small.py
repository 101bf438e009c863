"""The default: boxes and masks, a narrow ResNet-18, minutes on a CPU."""

_base_ = ["_base_/mask_rcnn_small.py", "_base_/photos_320.py", "_base_/schedule_30_epochs.py", "_base_/runtime.py"]

model = dict(
    backbone=dict(
        type="ResNet",
        depth=18,
        base_channels=32,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
