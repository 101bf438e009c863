"""What guards and steers a training run, whatever the model."""

seed = 0
short_keys = True  # train_batch_size, max_epochs, train_pipeline and the like count too, where a config that inherits this has them
checkpoint_seconds = 300  # longest time between two checkpoints within an epoch
early_stopping = dict(patience=0, min_delta=0.0)  # validations without improvement before stopping; 0 never stops
