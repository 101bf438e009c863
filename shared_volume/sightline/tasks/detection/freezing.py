"""A schedule of freezing: parts of the model stay as they began, and learn with the rest from some epoch on."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.errors import ConfigError, nearest

log = logging.getLogger(__name__)


@HOOKS.register_module()
class ThawHook(Hook):
    """Freezes `modules` at the start and lets them learn from epoch `begin_epoch` on, counted from 0.

    For modules that began with trained weights: the new layers learn first, and do not spoil them meanwhile. Statistics of
    normalisation stay too while a module is frozen. `--epochs` moves `begin_epoch` along.

    Args:
        modules: names within the model, such as `backbone` or `backbone.layer1`.
        begin_epoch: the first epoch in which they learn.
    """

    priority = "NORMAL"

    def __init__(self, modules: Sequence[str], begin_epoch: int) -> None:
        self.modules = [modules] if isinstance(modules, str) else list(modules)
        self.begin_epoch = begin_epoch
        self._learning: list[nn.Parameter] = []
        self._frozen: list[nn.Module] = []

    def before_train(self, runner: Any) -> None:
        """Find the modules.

        Raises:
            ConfigError: the model has no module of that name.
        """
        known = dict(runner.model.named_modules())
        for name in self.modules:
            if name not in known:
                raise ConfigError(f"ThawHook.modules: the model has no module {name!r}.{nearest(name, list(known))}")
        self._frozen = [known[name] for name in self.modules]
        if runner.epoch < self.begin_epoch:
            log.info("%s stays as it began for %d epochs", ", ".join(self.modules), self.begin_epoch)
        # What the model itself keeps frozen stays so.
        self._learning = [each for module in self._frozen for each in module.parameters() if each.requires_grad]

    def before_train_epoch(self, runner: Any) -> None:
        """Freeze, or let go."""
        if runner.epoch == self.begin_epoch:
            log.info("from this epoch on %s learns too", ", ".join(self.modules))
        for parameter in self._learning:
            parameter.requires_grad_(runner.epoch >= self.begin_epoch)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The loop puts the whole model into training before each epoch, and after each validation."""
        if runner.epoch < self.begin_epoch:
            for frozen in self._frozen:
                for module in frozen.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
