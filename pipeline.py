#!/usr/bin/env python3
"""The Sightline pipeline, and the commands of a laptop: python pipeline.py --help."""

import sys

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
