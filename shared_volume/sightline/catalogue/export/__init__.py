"""A version in another tool's format."""

from sightline.catalogue.export.write import FORMS, Exported, export_version

__all__ = ["FORMS", "Exported", "export_version"]
