"""Looking after versions: what there is, how two of them differ, whether each can be read, and mending what cannot."""

from sightline.catalogue.difference import Difference, compare_versions
from sightline.catalogue.listing import Listed, State, list_catalogue
from sightline.catalogue.repair import Deed, repair_versions
from sightline.catalogue.verification import Checked, Verification, verify_versions

__all__ = [
    "Checked",
    "Deed",
    "Difference",
    "Listed",
    "State",
    "Verification",
    "compare_versions",
    "list_catalogue",
    "repair_versions",
    "verify_versions",
]
