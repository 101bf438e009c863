"""Make an annotation version from a folder of labelme files."""

from sightline.publish.annotations import Published, publish_annotations

__all__ = ["Published", "publish_annotations"]
