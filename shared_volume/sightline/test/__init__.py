"""Use the selected model on test images, with or without annotations."""

from sightline.test.start import Tested, test_model

__all__ = ["Tested", "test_model"]
