"""`pipeline.py doctor`: what of an installation works, and what to do about the rest, in under a minute."""

import argparse
import logging
import os

from laptop.doctor import here
from laptop.doctor.lines import Check, Line, as_json, as_text, look
from laptop.workspace import open_workspace
from sightline.errors import SightlineError

PATIENCE = "10"  # seconds for a service that is silent, where nobody set another


def doctor(options: argparse.Namespace) -> int:
    """Look at everything and print a line each. Returns 1 when something fails."""
    os.environ.setdefault("SIGHTLINE_TIMEOUT", PATIENCE)
    logging.disable(logging.WARNING)  # every attempt of a service that is silent; the line says it once
    checks: dict[str, Check] = {}
    try:
        open_workspace(options.workspace, reads_storage=False, only_looks=True)
    except SightlineError as error:
        told = str(error)
        checks["workspace"] = lambda: Line("workspace", "fail", told)
    checks |= here.checks(here.settings_or_reason(), options.workspace)
    if options.cluster or _names_server(options):
        from laptop.doctor.cluster import checks as of_the_cluster

        checks |= of_the_cluster(options)
    lines = look(checks)
    print(as_json(lines) if options.json else as_text(lines))
    failed = sum(line.state == "fail" for line in lines)
    if not options.json:
        print(f"\n{f'{failed} of {len(lines)} fail' if failed else 'all is well'}")
    return 1 if failed else 0


def _names_server(options: argparse.Namespace) -> bool:
    return bool(options.host or os.environ.get("KF_PIPELINES_ENDPOINT") or os.environ.get("KFP_ENDPOINT"))
