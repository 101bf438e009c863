"""What `submit` and `schedule` look at before anything is sent: on the cluster each of these costs a minute or two."""

import re
from collections.abc import Mapping
from typing import Any

from components.parameters import PARAMETERS

QUANTITY = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)(m|k|[KMGTPE]i?|[eE][+-]?\d+)?")
"""How Kubernetes writes an amount."""
EXAMPLES = {"cpu": "2 or 500m", "memory": "8Gi or 512Mi", "gpus": "0 or 1"}
SIZES = {each.name: kind for each in PARAMETERS for kind in each.pod.values() if kind in EXAMPLES}
"""Parameter -> what it is the size of."""


def wrong_quantity(arguments: Mapping[str, Any]) -> str:
    """What is wrong with the first size of a pod that Kubernetes would not read; empty when all are well."""
    for name, kind in SIZES.items():
        value = arguments.get(name)
        if not isinstance(value, str):
            continue
        read = value.isdecimal() if kind == "gpus" else QUANTITY.fullmatch(value)
        if not read:
            return f"{name}={value} is no amount that Kubernetes reads. Write it like {EXAMPLES[kind]}."
    return ""
