"""The configs that mmdet's package ships, and the weights that were published for them: known without mmdet.

A config's name is that of its file, `rtmdet_tiny_8xb32-300e_coco`; where two folders have a file of that name, or where somebody
prefers it, with its folder and with or without `.py`: `rtmdet/rtmdet_tiny_8xb32-300e_coco.py`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from sightline.errors import ConfigError, did_you_mean
from sightline.models.mmdet_listed import SERVER, VERSION, WRITTEN
from sightline.models.weights.digests import digest_in
from sightline.services.runs.homes import SHIPPED

PREFIX: Final = SHIPPED
CONFIGS: Final = "configs"  # the folder of configs; it lies in mmdet's folder .mim
NAMED: Final = " Its configs are named as their files, like rtmdet_tiny_8xb32-300e_coco."


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """A file of trained weights that mmdet's package names."""

    address: str  # https://…
    digest: str  # the first hex digits of the file's SHA-256, or empty where its name does not tell


@dataclass(frozen=True, slots=True)
class ShippedConfig:
    """What is known of one config of mmdet's package."""

    name: str  # unique: the file's name without ending, with its folder where two have it
    path: str  # below mmdet's folder .mim: configs/rtmdet/rtmdet_tiny_8xb32-300e_coco.py
    tasks: tuple[str, ...]  # detection, instance, panoptic, …; none where no result was published
    data: tuple[str, ...]  # what the weights were trained on
    scores: Mapping[str, float]  # as published, in percent: box AP, mask AP, PQ, …
    weights: tuple[PublishedWeights, ...]


def find(name: str) -> ShippedConfig:
    """The config of that name, with or without `mmdet::`, its folder, and `.py`. A ConfigError names the nearest."""
    wanted = name.removeprefix(PREFIX).removeprefix(f"{CONFIGS}/").removesuffix(".py")
    by_path = _by_path()
    if wanted in by_path:
        return by_path[wanted]
    same = [path for path in by_path if path.rpartition("/")[2] == wanted]
    if len(same) == 1:
        return by_path[same[0]]
    if same:
        told = " or ".join(f"{PREFIX}{path}" for path in same)
        raise ConfigError(f"mmdet {VERSION} has {len(same)} configs named {wanted!r}. Write {told}.")
    known = by_path if "/" in wanted else names()
    raise ConfigError(f"mmdet {VERSION} has no config named {wanted!r}.{did_you_mean(wanted, known) or NAMED}")


def names() -> tuple[str, ...]:
    """The names of all configs, sorted."""
    return tuple(sorted(config.name for config in _by_path().values()))


def search(words: str) -> tuple[ShippedConfig, ...]:
    """The configs in whose path, tasks or data each of the words stands, in small letters or large; all for no word."""
    wanted = words.lower().split()
    found = []
    for config in _by_path().values():
        text = " ".join([config.path, *config.tasks, *config.data]).lower()
        if all(word in text for word in wanted):
            found.append(config)
    return tuple(sorted(found, key=lambda config: config.name))


@cache
def _by_path() -> Mapping[str, ShippedConfig]:
    """Every config by its path in the folder of configs, without `.py`."""
    records = dict(_records())
    numbers = Counter(fields[0] for fields in records.values())
    configs = {}
    for path, fields in records.items():
        stem, tasks, data, scores, weights = fields
        configs[path] = ShippedConfig(
            name=stem if numbers[stem] == 1 else path,
            path=f"{CONFIGS}/{path}.py",
            tasks=tuple(filter(None, tasks.split(","))),
            data=tuple(filter(None, data.split("+"))),
            scores=MappingProxyType(_scores(scores)),
            weights=tuple(map(_published, weights.split())),
        )
    return MappingProxyType(configs)


def _records() -> Iterator[tuple[str, list[str]]]:
    for line in WRITTEN.strip().splitlines():
        folder, _, configs = line.partition(":")
        for record in configs.split(";"):
            fields = record.split("|")
            yield f"{folder}/{fields[0]}", [*fields, *[""] * (5 - len(fields))]


def _scores(text: str) -> dict[str, float]:
    pairs = (pair.partition("=") for pair in text.split(",") if pair)
    return {metric: float(value) for metric, _, value in pairs}


def _published(address: str) -> PublishedWeights:
    whole = address if address.startswith("https://") else f"{SERVER}{address}"
    return PublishedWeights(whole, digest_in(whole.rpartition("/")[2]))
