"""A config in mmdet's own form (`train_dataloader`, `train_cfg`, …) becomes one of ours, which is what all else reads.

Paths, classes and evaluators are the dataset version's and the steps'; everything else is kept, or refused by name. Without
mmengine, and of a config that was read without running it, some values are unknown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sightline.errors import ConfigError
from sightline.models.config_keys import READ, UNKNOWN, dicts_within, override, refuse_unread

MARK: Final = "train_dataloader"
KEPT: Final = (  # keys of mmengine's runner that mean the same here
    *(
        "model",
        "optim_wrapper",
        "param_scheduler",
        "custom_hooks",
        "default_hooks",
        "custom_imports",
        "auto_scale_lr",
        "load_from",
    ),
    *("activation_checkpointing", "efficient_conv_bn_eval"),
)
OWN: Final = ("task", "seed", "checkpoint_seconds", "early_stopping")  # keys of ours that such a config may have beside
SHORT: Final = "short_keys"  # whether keys of our form count in it too, and are not just names of its own; our shipped configs say so
TURNED: Final = (MARK, "val_dataloader", "test_dataloader", "train_cfg", "randomness", "data_preprocessor")
LEFT: Final = (  # the steps have their own ways
    *(
        "val_cfg",
        "test_cfg",
        "val_evaluator",
        "test_evaluator",
        "env_cfg",
        "launcher",
        "log_level",
        "log_processor",
        "resume",
    ),
    *(
        "visualizer",
        "default_scope",
        "tta_model",
        "experiment_name",
        "compile",
        "work_dir",
        "backend_args",
        "vis_backends",
    ),
)
RUNNER: Final = (*KEPT, *TURNED, *LEFT)
DEFAULTS: Final = {"seed": 0, "checkpoint_seconds": 300, "early_stopping": {"patience": 0, "min_delta": 0.0}}
SAMPLERS: Final = ("DefaultSampler", "InfiniteSampler")  # an order of one's own comes in place of them
LOADED_OTHERWISE: Final = {  # what a pipeline would load, and no dataset version has
    "LoadPanopticAnnotations": "panoptic segmentation",
    "LoadProposals": "proposals of another detector",
    "LoadTextAnnotations": "texts",
    "RandomSamplingNegPos": "texts",
    "LoadTrackAnnotations": "videos",
    "UniformRefFrameSample": "videos",
    "TransformBroadcaster": "videos",
    "MultiBranch": "images without annotations beside those with",
}
ANOTHER: Final = "Choose a config that learns from boxes and masks alone."


def is_theirs(values: Mapping[str, Any]) -> bool:
    """Whether a config is of mmdet's form."""
    return MARK in values and "train_cfg" in values


def with_overrides(file: Path | str, values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A config in our form, with what a run sets: a key of mmdet's form or of ours, whatever form the config has.

    Raises:
        ConfigError: no such key, or what cannot be honoured.
    """
    short = values.pop(SHORT, False)
    if not is_theirs(values):
        for key, value in overrides.items():
            override(values, key, value)
        return values
    shortened = _short_keys(values) if short else {}
    late = {}
    for key, value in overrides.items():
        first = key.removeprefix("+").partition(".")[0]
        if first in READ and first not in RUNNER:
            late[key] = value
        elif key == f"+{first}" and first not in RUNNER:
            refuse_unread(file, first, value)
        elif first in values and first not in RUNNER:
            raise ConfigError(
                f"{file}: {first} is a name within the config, whose value was taken over when the config was read, so setting it "
                "would change nothing. Set what it is used for, like optim_wrapper.optimizer.lr."
            )
        elif first in values or key.startswith("+"):
            override(values, key, value)
        else:  # refused, with the nearest of the names of either form
            override({**dict.fromkeys(READ), **values}, key, value)
    ours = as_ours(file, values)
    _apply_short(ours, shortened)
    for key, value in late.items():
        override(ours, key, value)
    return ours


def has_short_keys(values: Mapping[str, Any]) -> bool:
    """Whether a config's `train_batch_size` and the like count, beside the keys of mmdet's form."""
    return bool(values.get(SHORT))


def _short_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Take the keys of our form out of a config of mmdet's."""
    return {name: values.pop(name) for name in READ if name in values and name not in (*RUNNER, *OWN)}


def _apply_short(ours: dict[str, Any], shortened: Mapping[str, Any]) -> None:
    """Let them replace what mmdet's keys say, as mmengine merges values into those of an inherited config."""
    for name, value in shortened.items():
        ours.setdefault(name, None)
        override(ours, name, value)


def as_ours(file: Path | str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same config in our form."""
    ours = {key: values[key] for key in (*KEPT, *OWN) if values.get(key) is not None}
    ours["model"] = _with_preprocessor(values)
    _refuse_companions(file, ours["model"])
    _normalize_alone(ours["model"])
    ours |= _dataset(file, _inside(values, MARK))
    ours |= _length(file, _inside(values, "train_cfg"))
    ours["test_pipeline"] = _test_pipeline(file, values)
    ours |= _randomness(_inside(values, "randomness"), values)
    ours.setdefault("param_scheduler", [])
    for key, value in DEFAULTS.items():
        ours.setdefault(key, dict(value) if isinstance(value, dict) else value)
    _stop_early(ours)
    _load_upright(file, ours)
    if values.get("compile") not in (None, False, UNKNOWN):
        raise ConfigError(f"{file}: compile is not supported. Leave it out: --set compile=null")
    return ours


def _inside(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A copy of the dict that stands there; an empty one where there is none, or nobody knows what it is."""
    found = values.get(key)
    return dict(found) if isinstance(found, Mapping) else {}


def _with_preprocessor(values: Mapping[str, Any]) -> Any:
    model, outside = values.get("model"), values.get("data_preprocessor")
    if isinstance(model, Mapping) and isinstance(outside, Mapping):
        return {"data_preprocessor": dict(outside), **model}
    return model


def _refuse_companions(file: Path | str, model: Any) -> None:
    """Refuse a model that takes more than images: texts, or another detector that was trained before."""
    if not isinstance(model, Mapping):
        return
    if model.get("language_model"):
        raise ConfigError(
            f"{file}: model.language_model reads texts beside each image, and dataset versions have no texts. {ANOTHER}"
        )
    if model.get("teacher_ckpt"):
        raise ConfigError(
            f"{file}: model.teacher_ckpt names the weights of a detector from which this one learns, and training fetches nothing by "
            f"itself. {ANOTHER}"
        )


def _normalize_alone(model: Any) -> None:
    """Batch norms that wait for other processes become plain ones, which compute the same in a single process; in place."""
    for _, node in dicts_within(model):
        if _type(node) == "MMSyncBN":
            node["type"] = "BN"


def _dataset(file: Path | str, loader: dict[str, Any]) -> dict[str, Any]:
    """What a training loader says, but for where its data lie."""
    sampler = _inside(loader, "sampler").get("type", SAMPLERS[0])
    if sampler is not UNKNOWN and str(sampler).rpartition(".")[2] not in SAMPLERS:
        raise ConfigError(
            f"{file}: train_dataloader.sampler is {sampler}, and its order could not be resumed. Leave it out, or balance classes by "
            "the dataset wrapper ClassBalancedDataset: --set train_dataloader.sampler.type=DefaultSampler"
        )
    collate = _inside(loader, "collate_fn").get("type", "pseudo_collate")
    if collate is not UNKNOWN and str(collate) not in ("pseudo_collate", "default_collate"):
        raise ConfigError(f"{file}: train_dataloader.collate_fn is {collate}, which is not supported. Leave it out.")
    wrappers, dataset = _unwrapped(file, loader.get("dataset"))
    found: dict[str, Any] = {
        "train_pipeline": dataset.get("pipeline", UNKNOWN),
        "train_dataset_wrapper": wrappers[0] if len(wrappers) == 1 else wrappers or None,
        "filter_cfg": dataset.get("filter_cfg"),
        "train_batch_size": loader.get("batch_size", 1),
        "num_workers": loader.get("num_workers", 0),
        "batch_sampler": loader.get("batch_sampler"),
        "drop_last": loader.get("drop_last", False),
    }
    if isinstance(found["batch_sampler"], Mapping):
        found["drop_last"] = found["batch_sampler"].get("drop_last", found["drop_last"])
    return found


def _unwrapped(file: Path | str, dataset: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The wrappers around a dataset, the outermost first, and the dataset itself; of several that are joined, the first."""
    wrappers = []
    while isinstance(dataset, Mapping):
        joined = dataset.get("datasets")
        if isinstance(joined, list | tuple) and joined:
            pipelines = [one.get("pipeline", dataset.get("pipeline")) for one in joined if isinstance(one, Mapping)]
            if any(one != pipelines[0] for one in pipelines):
                raise ConfigError(
                    f"{file}: train_dataloader joins datasets of different kinds, and a dataset version is one. {ANOTHER}"
                )
            dataset = joined[0]
        elif "dataset" in dataset:
            wrappers.append({key: value for key, value in dataset.items() if key != "dataset"})
            dataset = dataset["dataset"]
        else:
            return wrappers, dict(dataset)
    return wrappers, {}


def _length(file: Path | str, loop: dict[str, Any]) -> dict[str, Any]:
    """How long is trained, and when validated."""
    kind = loop.get("type", "IterBasedTrainLoop" if loop.get("by_epoch") is False else "EpochBasedTrainLoop")
    counted = {"EpochBasedTrainLoop": "max_epochs", "IterBasedTrainLoop": "max_iters"}
    if kind is UNKNOWN:
        return {"max_epochs": UNKNOWN, "val_interval": UNKNOWN}
    if str(kind).rpartition(".")[2] not in counted:
        raise ConfigError(
            f"{file}: train_cfg.type is {kind}, a loop that training does not know. Use EpochBasedTrainLoop or IterBasedTrainLoop."
        )
    key = counted[str(kind).rpartition(".")[2]]
    found = {key: loop.get(key, UNKNOWN), "val_interval": loop.get("val_interval", 1 if key == "max_epochs" else 1000)}
    return found | {name: loop[name] for name in ("val_begin", "dynamic_intervals") if loop.get(name) is not None}


def _test_pipeline(file: Path | str, values: Mapping[str, Any]) -> Any:
    for key in ("val_dataloader", "test_dataloader"):
        _, dataset = _unwrapped(file, _inside(values, key).get("dataset"))
        steps = dataset.get("pipeline")
        if isinstance(steps, list | tuple):  # the truth comes with the dataset version, not by the pipeline
            return [step for step in steps if not (isinstance(step, Mapping) and _type(step) == "LoadAnnotations")]
    known = isinstance(values.get("val_dataloader"), Mapping) or values.get("val_dataloader") is None
    if known and isinstance(values.get(MARK), Mapping) and "val_dataloader" not in values:
        raise ConfigError(f"{file} has no val_dataloader, whose pipeline says how images are prepared for the model.")
    return UNKNOWN


def _randomness(randomness: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "seed" not in values and randomness.get("seed") is not None:
        found["seed"] = randomness["seed"]
    if randomness.get("deterministic"):
        found["deterministic"] = randomness["deterministic"]
    return found


def _stop_early(ours: dict[str, Any]) -> None:
    """mmengine's EarlyStoppingHook becomes our early stopping, by the metric that selects, and exact when resumed."""
    hooks = ours.get("custom_hooks")
    if not isinstance(hooks, list | tuple):
        return
    for hook in hooks:
        if isinstance(hook, Mapping) and _type(hook) == "EarlyStoppingHook":
            ours["early_stopping"] = {"patience": hook.get("patience", 5), "min_delta": hook.get("min_delta", 0.1)}
    ours["custom_hooks"] = [
        hook for hook in hooks if not (isinstance(hook, Mapping) and _type(hook) == "EarlyStoppingHook")
    ]


def _load_upright(file: Path | str, ours: dict[str, Any]) -> None:
    """Images are read as their annotators saw them; what would load anything else is refused."""
    for part in ("train_pipeline", "test_pipeline", "train_dataset_wrapper", "custom_hooks"):
        for key, step in dicts_within(ours.get(part), part):
            kind = _type(step)
            if kind == "LoadImageFromFile":
                floats = step.get("to_float32")
                step.clear()
                step |= {"type": "LoadUprightImage"} | ({"to_float32": floats} if floats else {})
            if kind == "LoadAnnotations" and step.get("poly2mask") is False:
                step.pop("poly2mask")
                step["type"] = "LoadOutlines"  # which loads objects too that have no outline
            if kind in LOADED_OTHERWISE:
                raise ConfigError(
                    f"{file}: {key} is {kind}, and dataset versions have no {LOADED_OTHERWISE[kind]}. {ANOTHER}"
                )
            if kind == "LoadAnnotations" and step.get("with_seg"):
                raise ConfigError(
                    f"{file}: {key} wants semantic segmentation, and dataset versions have none. {ANOTHER}"
                )


def _type(node: Mapping[str, Any]) -> str:
    """A type's name without the scope before it."""
    return str(node.get("type", "")).rpartition(".")[2]


def fit_classes(model: Any, classes: Sequence[str]) -> None:
    """Set the sizes of a model's heads to a dataset's classes, whatever the config says; in place.

    A proposal network's head that tells objects from background only, stays with its one class.
    """
    for key, node in dicts_within(model, "model"):
        before = node.get("num_classes", node.get("num_things_classes"))
        if not isinstance(before, int) or (before == 1 and "rpn" in key):
            if "num_classes" in node and before is None:
                node["num_classes"] = len(classes)
            continue
        for name in ("num_classes", "num_things_classes"):
            if name in node:
                node[name] = len(classes)
        stuff = node.get("num_stuff_classes") or 0
        if stuff:
            node["num_stuff_classes"] = 0
        _fit_weights(node, before + stuff, len(classes))


def _fit_weights(head: dict[str, Any], before: int, after: int) -> None:
    """Weights of a loss for each class and the background."""
    for _, node in dicts_within(head):
        weights = node.get("class_weight")
        if isinstance(weights, list | tuple) and len(weights) in (before, before + 1):
            kept = list(weights[before:])
            node["class_weight"] = [weights[0]] * after + kept
