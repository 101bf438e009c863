"""Keys of a config: values that a run sets by dotted keys, and keys that nothing reads, which are refused by name, for dropped
silently they would be believed to work. Without mmengine, so that a run can be told at its start what is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sightline.errors import ConfigError, nearest

NULL: Final = "null"
PIPELINE: Final = "pipeline"  # in the name of every key with steps that prepare an image
AXES: Final = 2  # of a size
UNKNOWN: Final = object()  # stands for a value that only running the config would tell: nobody knows what is in it
# The keys that training reads, whatever the task.
READ: Final = (
    *("model", "train_pipeline", "test_pipeline", "train_dataset_wrapper", "train_batch_size", "num_workers"),
    *("optim_wrapper", "param_scheduler", "max_epochs", "val_interval", "seed", "checkpoint_seconds", "early_stopping"),
    *("custom_hooks", "default_hooks", "custom_imports", "auto_scale_lr", "batch_sampler", "drop_last", "filter_cfg"),
    *(
        "max_iters",
        "val_begin",
        "dynamic_intervals",
        "deterministic",
        "activation_checkpointing",
        "efficient_conv_bn_eval",
    ),
    "task",
    "load_from",
)
# Keys of mmengine's own configs that change no result; the steps have their own ways.
HARMLESS: Final = (
    *("default_scope", "env_cfg", "launcher", "log_level", "log_processor", "vis_backends", "visualizer", "work_dir"),
    "backend_args",
)
# Keys of mmengine's that have other names here.
INSTEAD: Final = {
    "train_dataloader": "train_pipeline, train_batch_size and num_workers",
    "val_dataloader": "test_pipeline",
    "test_dataloader": "test_pipeline",
    "train_cfg": "max_epochs and val_interval",
    "randomness": "seed",
}
# Keys of mmengine's runner, which training does not use.
UNSUPPORTED: Final = ("resume", *INSTEAD)
EARLY_STOPPING: Final = ("patience", "min_delta")  # what is read of `early_stopping`, at which nobody else looks


def override(values: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key in nested dicts and lists, in place; a ConfigError for no such key names the nearest."""
    add = key.startswith("+")
    *parents, last = key.removeprefix("+").split(".")
    node: Any = values
    for depth, part in enumerate(parents):
        node = node[_find(node, part, parents[:depth], key)]
        if node is UNKNOWN:
            return
    if add and isinstance(node, dict) and last not in node:
        node[last] = _like(None, value, PIPELINE in key)
        return
    if add and isinstance(node, list) and last == str(len(node)):
        node.append(_like(None, value, PIPELINE in key))
        return
    key_found = _find(node, last, parents, key)
    old = node[key_found]
    if old is UNKNOWN:
        return
    if isinstance(value, Mapping) and value.get(
        "_delete_"
    ):  # mmengine's way to say that nothing of the old value stays
        node[key_found] = {name: inner for name, inner in value.items() if name != "_delete_"} or None
    elif isinstance(value, Mapping) and isinstance(old, dict) and "type" not in value:
        for inner, inner_value in value.items():
            override(values, f"{key}.{inner}", inner_value)
    else:
        node[key_found] = _like(old, value, PIPELINE in key)


def _like(old: Any, value: Any, in_pipeline: bool = False) -> Any:
    """An override as the config would have written it.

    KFP hands every number in a dict on as a float and cannot hand on null, for which its name stands; JSON knows no tuples, on
    which steps of a pipeline insist for sizes, whether the config had one there or not.
    """
    if value == NULL:
        return None
    if isinstance(value, float) and value.is_integer() and not isinstance(old, float):
        return int(value)
    if isinstance(value, list):
        olds = list(old) if isinstance(old, list | tuple) and old else [None]
        items = [_like(olds[min(index, len(olds) - 1)], item, in_pipeline) for index, item in enumerate(value)]
        is_size = in_pipeline and len(items) == AXES and all(type(item) is int for item in items)
        return tuple(items) if isinstance(old, tuple) or (is_size and not isinstance(old, list)) else items
    if isinstance(value, dict):
        olds_by_name = old if isinstance(old, dict) else {}
        return {
            name: _like(olds_by_name.get(name), item, in_pipeline or PIPELINE in name) for name, item in value.items()
        }
    return value


def _find(node: Any, part: str, above: Sequence[str], key: str) -> Any:
    """The dict key or list index that `part` names in `node`."""
    where = ".".join(above) or "the config"
    if isinstance(node, dict):
        if part in node:
            return part
        raise ConfigError(
            f"The config has no key {key!r}: {where} has no {part!r}.{nearest(part, map(str, node))} "
            f"To add a new key write '+{key.removeprefix('+')}'."
        )
    if isinstance(node, list | tuple):
        if part.isdecimal() and int(part) < len(node) and isinstance(node, list):
            return int(part)
        whole = f" Set {where} as a whole." if isinstance(node, tuple) else ""
        raise ConfigError(
            f"The config has no key {key!r}: {where} is a list of {len(node)} (0 to {len(node) - 1}).{whole}"
        )
    raise ConfigError(f"The config has no key {key!r}: {where} is {node!r} and has nothing inside. Set {where} itself.")


def dicts_within(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict in `node` with its dotted key, itself among them, where `key` is its own."""
    if isinstance(node, dict):
        yield key, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for part, value in items:
        yield from dicts_within(value, f"{key}.{part}" if key else str(part))


def refuse_unsupported(file: Path, values: Mapping[str, Any]) -> None:
    """Refuse what mmengine's runner would read and ours does not; `values` are the config's, with what a run sets."""
    for key in UNSUPPORTED:
        refuse_unread(file, key, values.get(key))
    _require_one_optimizer(file, values.get("optim_wrapper"))
    inner = values.get("early_stopping")
    for name in inner if isinstance(inner, Mapping) else ():
        if name not in EARLY_STOPPING:
            hint = nearest(str(name), EARLY_STOPPING)
            raise ConfigError(f"{file}: nothing reads the key 'early_stopping.{name}'. Leave it out.{hint}")


def _require_one_optimizer(file: Path, optim_wrapper: Any) -> None:
    if not isinstance(optim_wrapper, Mapping) or "optimizer" in optim_wrapper:
        return
    if several := [name for name, each in optim_wrapper.items() if isinstance(each, Mapping) and "optimizer" in each]:
        raise ConfigError(
            f"{file}: optim_wrapper has {len(several)} optimizers ({', '.join(several)}), and training takes one. Give it one for "
            "the whole model; rates that differ by module go into optim_wrapper.paramwise_cfg."
        )


def refuse_unread(file: Path | str, key: str, value: Any) -> None:
    """Refuse a key that nothing reads, unless its value changes nothing anyway: a ConfigError says what to use instead."""
    if value is None or value is False or (isinstance(value, dict | list | tuple) and not value):
        return
    instead = f" Use {INSTEAD[key]} instead." if key in INSTEAD else nearest(key, READ).replace("Known", "Keys")
    raise ConfigError(f"{file}: nothing reads the key {key!r}, so it would change nothing. Leave it out.{instead}")
