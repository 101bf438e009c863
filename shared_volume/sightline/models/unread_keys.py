"""Keys of a config that nothing reads: refused by name, for dropped silently they would be believed to work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sightline.errors import ConfigError, nearest

READ: Final = (
    *("model", "train_pipeline", "test_pipeline", "train_dataset_wrapper", "train_batch_size", "num_workers"),
    *("optim_wrapper", "param_scheduler", "max_epochs", "val_interval", "seed", "checkpoint_seconds", "early_stopping"),
    "task",
)
"""The keys that training reads, whatever the task."""
HARMLESS: Final = (
    *("default_scope", "env_cfg", "launcher", "log_level", "log_processor", "vis_backends", "visualizer", "work_dir"),
    "backend_args",
)
"""Keys of mmengine's own configs that change no result; the steps have their own ways."""
INSTEAD: Final = {
    "train_dataloader": "train_pipeline, train_batch_size and num_workers",
    "val_dataloader": "test_pipeline",
    "test_dataloader": "test_pipeline",
    "train_cfg": "max_epochs and val_interval",
    "randomness": "seed",
}
"""Keys of mmengine's that have other names here."""
UNSUPPORTED: Final = ("auto_scale_lr", "custom_hooks", "default_hooks", "load_from", "resume", *INSTEAD)
"""Keys of mmengine's runner, which training does not use."""
INNER: Final = {"early_stopping": ("patience", "min_delta")}
"""What is read of a key that nobody else looks at."""


def refuse_unsupported(file: Path, values: Mapping[str, Any]) -> None:
    """Refuse what mmengine's runner would read and ours does not.

    Args:
        file: the config, for messages.
        values: its keys, with what a run sets.

    Raises:
        ConfigError: names the key, and what to use instead.
    """
    for key in UNSUPPORTED:
        if key in values and not says_nothing(values[key]):
            raise unread_key(file, key)
    for key, read in INNER.items():
        inner = values.get(key)
        if not isinstance(inner, Mapping):
            continue
        for name in inner:
            if name not in read:
                raise ConfigError(
                    f"{file}: nothing reads the key '{key}.{name}'. Leave it out.{nearest(str(name), read)}"
                )


def says_nothing(value: Any) -> bool:
    """Whether a key with this value changes nothing anyway."""
    return value is None or value is False or (isinstance(value, dict | list | tuple) and not value)


def unread_key(file: Path, key: str) -> ConfigError:
    """The error about a key that nothing reads."""
    instead = f" Use {INSTEAD[key]} instead." if key in INSTEAD else nearest(key, READ).replace("Known", "Keys")
    return ConfigError(f"{file}: nothing reads the key {key!r}, so it would change nothing. Leave it out.{instead}")
