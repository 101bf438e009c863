"""Fit a detector on one dataset version."""

from sightline.threads import set_thread_environment

set_thread_environment()  # before anything imports torch

from sightline.train.fit import Trained, train_model  # noqa: E402

__all__ = ["Trained", "train_model"]
