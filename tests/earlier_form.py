"""A config as all of ours were once: keys of our own in place of mmdet's loaders and loops."""

EARLIER = """
_base_ = ["../../configs/_base_/mask_rcnn_small.py"]
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
train_pipeline = [
    dict(type="LoadUprightImage"),
    dict(type="LoadOutlines", with_bbox=True, with_mask=True),
    dict(type="RandomResize", scale=(320, 320), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(320, 320), recompute_bbox=True, allow_negative_crop=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadUprightImage"),
    dict(type="Resize", scale=(320, 320), keep_ratio=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataset_wrapper = None
train_batch_size = 4
num_workers = 1
max_epochs = 30
val_interval = 3
seed = 0
checkpoint_seconds = 300
early_stopping = dict(patience=0, min_delta=0.0)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=30, T_max=30, convert_to_iter_based=True),
]
"""
