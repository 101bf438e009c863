"""docs/configs.md, written from what `tests/mmdet_families.py` tried."""

import re
import textwrap
from collections.abc import Mapping
from functools import cache
from typing import Final

from sightline.models.mmdet_index import CONFIGS, PREFIX, VERSION, find, names
from tests.doc_tables import table
from tests.mmdet_families_one import FAILED, NO_DATA, OPERATOR, PACKAGE, REFUSED, WORKS, Outcome

WIDTH: Final = 140  # characters of a line of these pages
IMAGES: Final = {"detection", "instance"}  # tasks whose models learn from boxes and masks of images
OTHERS: Final = ("clrnet",)  # finds lanes, which mmdet's index does not tell
HEADING: Final = ("family", "config that was tried", "")
PAGE: Final = """# Configs of mmdet: which families work

What came of one config of each family of mmdet {version}, a family being a folder of its configs. `--config {prefix}NAME` takes any of
them, and [training](training.md#configs-of-mmdet) says what becomes of such a config. This page is made by a command, which
[development](development.md#configs-of-mmdet) names.

**works** means: with small images the config's model was built, trained for one step and validated by what `train` calls; its bundle was
written, read back, and found the same on an image (where the untrained model found nothing, what it computes of the image was compared).
This was done on a CPU, with an mmcv that has no compiled operators, and with the packages that `make setup` installs. Of a family that
tracks objects in videos the config that was tried is of its detector, where it has such a config.

{counted}

{table}

- **compiled operator**: it is in an mmcv with compiled operators only, as the [images](cluster.md) have it; on a laptop it takes
  [half an hour to build](training.md#torch-and-mmcv). The first that was missing is named; a GPU may want others, without which a CPU does.
- **package**: a Python package that Sightline does not install. Whether the config works with it was not tried.
- **refused**: what Sightline says of the config before it trains.
- **fails**: what stops it otherwise.
"""


def page(outcomes: Mapping[str, Outcome]) -> str:
    """The whole page; outcomes by family, in the page's order."""
    rows = [(family, f"`{find(outcome.config).name}`", _told(outcome)) for family, outcome in outcomes.items()]
    return PAGE.format(version=VERSION, prefix=PREFIX, counted=_counted(outcomes), table=table(HEADING, rows))


def counted_families(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Those that find objects or their outlines on images, and need no compiled operator that Sightline does not supply."""
    return [
        family
        for family, outcome in outcomes.items()
        if outcome.state != OPERATOR and not _learns_otherwise(family, outcome)
    ]


def _counted(outcomes: Mapping[str, Outcome]) -> str:
    counted = counted_families(outcomes)
    works = sum(outcomes[family].state == WORKS for family in counted)
    all_works = sum(outcome.state == WORKS for outcome in outcomes.values())
    told = (
        f"{len(outcomes)} families were tried, of which {all_works} work. {len(counted)} of them find objects or their outlines on images "
        f"and need no compiled operator but those that Sightline [supplies](training.md#torch-and-mmcv): {works} of these work "
        f"({round(100 * works / max(1, len(counted)))} %)."
    )
    return textwrap.fill(told, WIDTH, break_long_words=False, break_on_hyphens=False)


def _learns_otherwise(family: str, outcome: Outcome) -> bool:
    """Whether the family learns from what is no box or mask of an image: videos, texts, whole scenes, …"""
    tasks = _tasks()[family]
    refused = outcome.state == REFUSED and NO_DATA in outcome.reason
    return refused or bool(tasks and not tasks & IMAGES) or family in OTHERS


@cache
def _tasks() -> Mapping[str, set[str]]:
    """Family -> what its configs are for, as far as mmdet tells."""
    found: dict[str, set[str]] = {}
    for config in map(find, names()):
        family = config.path.removeprefix(f"{CONFIGS}/").partition("/")[0]
        found.setdefault(family, set()).update(config.tasks)
    return found


def _told(outcome: Outcome) -> str:
    reason = re.sub(r"\s+", " ", outcome.reason)
    return {
        WORKS: "works",
        OPERATOR: f"compiled operator: `{reason}`",
        PACKAGE: f"package: `{reason}`",
        REFUSED: f"refused: {reason}",
        FAILED: f"fails: {reason}",
    }[outcome.state]
