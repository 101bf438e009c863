"""Photographs scaled to fit 320 x 320 pixels, varied in size, place, side and light; in batches of 4."""

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        type="CocoDataset",
        pipeline=[
            dict(type="LoadUprightImage"),
            dict(type="LoadOutlines", with_bbox=True, with_mask=True),
            dict(type="RandomResize", scale=(320, 320), ratio_range=(0.8, 1.25), keep_ratio=True),
            dict(type="RandomCrop", crop_size=(320, 320), recompute_bbox=True, allow_negative_crop=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            # keep_empty=False is mmdet's way to say that images without objects stay.
            dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CocoDataset",
        pipeline=[
            dict(type="LoadUprightImage"),
            dict(type="Resize", scale=(320, 320), keep_ratio=True),
            dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
        ],
    ),
)
