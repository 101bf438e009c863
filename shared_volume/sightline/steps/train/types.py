"""Types that a config names and mmengine does not know: one sentence in place of whatever fails then."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS, Registry

from sightline.models.config_types import named_types, unknown_type

# Dotted key -> where mmengine looks, once training begins, for the type of what stands there, or of each item of its list.
BUILT_LATER: Final = {
    "optim_wrapper": OPTIM_WRAPPERS,
    "optim_wrapper.optimizer": OPTIMIZERS,
    "param_scheduler": PARAM_SCHEDULERS,
}


@contextlib.contextmanager
def types_known(config: Config, scope: str) -> Iterator[None]:
    """Look at a config's types, by the task's scope, while model and data are built, and then at those of what is built later.

    A ConfigError for a type that is not registered names the key and the nearest.
    """
    named = dict(named_types(config.to_dict()))
    try:
        yield
    except Exception as error:
        known = _names([each for each in vars(mmengine.registry).values() if isinstance(each, Registry)], scope)
        for key, name in named.items():
            # mmengine raises whatever the failing part raised, with the part's name put before it.
            if f"{name} is not in the" in str(error) or (name in str(error) and name.rpartition(".")[2] not in known):
                raise unknown_type(key, name, known - {name}) from error
        raise
    for settings, registry in BUILT_LATER.items():
        known = _names([registry], scope)
        for key, name in named.items():
            # What it is the type of, without its place in a list.
            owner = ".".join(part for part in key.split(".")[:-1] if not part.isdecimal())
            if owner == settings and "." not in name and name not in known:
                raise unknown_type(key, name, known)


def _names(registries: Iterable[Registry], scope: str) -> set[str]:
    """What registries find in a scope: their own, those of their children of that scope, and what both import on demand."""
    found: set[str] = set()
    for registry in registries:
        for each in (registry, registry.children.get(scope)):
            if each is not None:
                each.import_from_location()
                found |= each.module_dict.keys()
    return found
