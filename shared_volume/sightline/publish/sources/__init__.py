"""Annotations in another tool's format, turned into a labelme folder that the normal way of publishing takes."""

from sightline.publish.sources.convert import FORMS, Source, as_labelme
from sightline.publish.sources.detect import detect_form

__all__ = ["FORMS", "Source", "as_labelme", "detect_form"]
