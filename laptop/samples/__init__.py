"""Licence-plate photographs with labelme annotations, drawn at random: a dataset to try the whole pipeline on."""

from laptop.samples.dataset import LABELS, LabelSet, make_plates

__all__ = ["LABELS", "LabelSet", "make_plates"]
