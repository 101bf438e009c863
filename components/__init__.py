"""The KFP interface of every step: a folder each. What a step does is in the library, shared_volume/sightline."""

from components.evaluate.component import evaluate
from components.record.component import record
from components.snapshot.component import snapshot
from components.test.component import test
from components.train.component import train

__all__ = ["evaluate", "record", "snapshot", "test", "train"]
