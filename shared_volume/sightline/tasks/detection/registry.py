"""Everything a config may name by `type`, registered once."""

import contextlib
import importlib
import io
import warnings
from functools import cache

from sightline.tasks.detection.ops import supply_missing_ops

PACKAGES = ("datasets", "engine", "evaluation", "models", "visualization")  # of mmdet


@cache
def register() -> None:
    """Make mmdet's and our own modules known by name, mmdet's first. Call before building anything from a config."""
    supply_missing_ops()
    # mmdet prints and warns about optional packages that no config of ours needs.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for package in PACKAGES:
            importlib.import_module(f"mmdet.{package}")
        from mmengine.registry import init_default_scope

        import sightline.tasks.detection.modules  # noqa: F401

        init_default_scope("mmdet")
