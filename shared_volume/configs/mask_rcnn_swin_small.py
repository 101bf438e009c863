"""Boxes and masks, a small Swin transformer: the full model's kind at a size that a CPU can train."""

_base_ = ["_base_/mask_rcnn_small.py", "_base_/photos_320.py", "_base_/schedule_30_epochs.py", "_base_/runtime.py"]

model = dict(
    backbone=dict(
        type="SwinTransformer",
        embed_dims=32,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        window_size=7,
        mlp_ratio=4,
        drop_path_rate=0.1,
        patch_norm=True,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(absolute_pos_embed=dict(decay_mult=0.0), relative_position_bias_table=dict(decay_mult=0.0))
    )
)
