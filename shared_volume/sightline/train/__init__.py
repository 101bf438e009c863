"""Fit a detector on one dataset version."""

from sightline.train.start import Trained, train_model

__all__ = ["Trained", "train_model"]
