"""`pipeline.py doctor`: what of an installation works, and what to do about the rest, in under a minute."""

import argparse
import logging
import os

from laptop.doctor import here
from laptop.doctor.lines import as_json, as_text, look
from laptop.kubeflow.access import names_server
from laptop.workspace import point_into

PATIENCE = "10"  # seconds for a service that is silent, where nobody set another


def doctor(options: argparse.Namespace) -> int:
    """Look at everything and print a line each. Returns 1 when something fails."""
    os.environ.setdefault("SIGHTLINE_TIMEOUT", PATIENCE)
    logging.disable(logging.WARNING)  # every attempt of a service that is silent; the line says it once
    workspace = point_into(options.workspace)
    checks = here.checks(here.settings_or_reason(), workspace)
    if options.cluster or names_server(options):
        from laptop.doctor.cluster import checks as of_the_cluster

        checks |= of_the_cluster(options)
    lines = look(checks)
    print(as_json(lines) if options.json else as_text(lines))
    failed = sum(line.state == "fail" for line in lines)
    if not options.json:
        print(f"\n{f'{failed} of {len(lines)} fail' if failed else 'all is well'}")
    return 1 if failed else 0
