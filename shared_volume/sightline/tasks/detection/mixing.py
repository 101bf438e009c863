"""mmdet's transforms that mix an image with earlier ones from a cache, without the cache.

What a cache holds depends on all samples before, in that very process: a resumed training would see others. The images to mix
with are drawn anew for each sample instead, and prepared as far as the pipeline has come; that takes longer to load.
"""

import random
from collections.abc import Callable
from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import CachedMixUp, CachedMosaic
from mmdet.registry import TRANSFORMS

from sightline.errors import ConfigError

TRIES = 15  # a pipeline may leave an image out, as one without objects

Results = dict[str, Any]


class _Mixing(BaseTransform):
    """Fills the cache with other images before each use."""

    others: int  # images that are wanted beside the sample
    prob: float
    draw: Callable[[], Results] | None = None

    def transform(self, results: Results) -> Results | None:
        if random.uniform(0, 1) > self.prob:
            return results
        if self.draw is None:
            raise ConfigError(
                f"{type(self).__name__} stands within another step, or in the pipeline to which a hook switches, and there it cannot "
                "draw images to mix. Put it into the dataset's own pipeline."
            )
        self.results_cache = [self.draw() for _ in range(self.others)]
        chance, self.prob = self.prob, 1.0
        try:
            return super().transform(results)
        finally:
            self.prob = chance
            self.results_cache = []


@TRANSFORMS.register_module(name="CachedMosaic", force=True)
class Mosaic(_Mixing, CachedMosaic):
    """mmdet's `CachedMosaic`: four images in one."""

    others = 4


@TRANSFORMS.register_module(name="CachedMixUp", force=True)
class MixUp(_Mixing, CachedMixUp):
    """mmdet's `CachedMixUp`: one image laid over another."""

    others = 1


def bind_mixing(dataset: Any) -> None:
    """Let the mixing steps of a dataset's pipeline draw from the dataset."""
    for index, step in enumerate(dataset.pipeline.transforms):
        if isinstance(step, _Mixing):
            step.max_cached_images = max(step.max_cached_images, step.others + 1)
            step.draw = _Draw(dataset, index)


class _Draw:
    """An image of a dataset, chosen by chance, as the first steps of the pipeline make it."""

    def __init__(self, dataset: Any, steps: int) -> None:
        self.dataset = dataset
        self.steps = steps

    def __call__(self) -> Results:
        for _ in range(TRIES):
            results = self.dataset.get_data_info(random.randrange(len(self.dataset)))
            for step in self.dataset.pipeline.transforms[: self.steps]:
                results = step(results)
                if results is None:
                    break
            if results is not None:
                return results
        raise ConfigError(
            f"Of {TRIES} images the first {self.steps} steps of train_pipeline left none to mix with. Let them keep images without "
            "objects, or leave the mixing out."
        )
