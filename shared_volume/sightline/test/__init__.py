"""Use the selected model on test images, with or without annotations."""

from sightline.threads import set_thread_environment

set_thread_environment()  # before anything imports torch

from sightline.test.run import Tested, test_model  # noqa: E402

__all__ = ["Tested", "test_model"]
