"""Turn an annotation version into a dataset version."""

from sightline.record.dataset import Recorded, record_dataset

__all__ = ["Recorded", "record_dataset"]
