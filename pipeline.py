#!/usr/bin/env python3
"""The Sightline pipeline, and the commands of a laptop: python pipeline.py --help."""

import sys

if __name__ == "__main__":
    # The commands load kfp only where they need it, so that --help answers at once.
    from laptop.cli import main

    sys.exit(main())

from components.parameters import STEPS
from components.wiring import make_pipeline

sightline = make_pipeline(STEPS)
"""Snapshot, record, train, evaluate, test. Its parameters are in components/parameters.py."""
