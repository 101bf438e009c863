"""Score candidate models on one split and select one."""

from sightline.threads import set_thread_environment

set_thread_environment()  # before anything imports torch

from sightline.evaluate.compare import Evaluated, evaluate_models  # noqa: E402

__all__ = ["Evaluated", "evaluate_models"]
