#!/usr/bin/env python3
"""The Sightline pipeline, and the commands of a laptop: python pipeline.py --help."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - these cannot read the modules below
    version = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        "error: this is Python " + version + " (" + sys.executable + "), and Python 3.11 to 3.13 is needed. Type "
        "`source .venv/bin/activate`, after `make setup` or `make setup-submit` once."
    )

if __name__ == "__main__":
    from laptop import OURS

    try:
        # The commands load kfp only where they need it, so that --help answers at once.
        from laptop.cli import main
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in OURS:
            raise
        sys.exit(
            f"error: {error.name} is not installed for {sys.executable}. "
            "Type `source .venv/bin/activate`, after `make setup` or `make setup-submit` once."
        )
    sys.exit(main())

from components.parameters import STEPS
from components.wiring import make_pipeline

sightline = make_pipeline(STEPS)
"""Snapshot, record, train, evaluate, test. Its parameters are in components/parameters.py."""
