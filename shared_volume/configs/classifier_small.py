"""The default of classification: whole images at 96 pixels, a narrow residual network, minutes on a CPU from scratch."""

_base_ = ["_base_/runtime.py"]

task = "classification"
model = dict(
    type="ImageClassifier",
    channels=[32, 64, 128, 192],
    num_classes=None,  # None: as many as the dataset has
    dropout=0.2,
    label_smoothing=0.05,
    data_preprocessor=dict(
        type="ImgDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
)
train_pipeline = dict(size=96, least_area=0.5, flip=0.5, light=0.3)
test_pipeline = dict(size=96)
train_batch_size = 16
num_workers = 1
max_epochs = 40
val_interval = 4
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=40, T_max=40, convert_to_iter_based=True),
]
