"""Score candidate models on one split and select one."""

from sightline.evaluate.start import Evaluated, evaluate_models

__all__ = ["Evaluated", "evaluate_models"]
