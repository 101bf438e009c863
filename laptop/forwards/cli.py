"""The command connect: its options."""

import argparse
from pathlib import Path

from laptop.options import positive
from laptop.volume.cli import add_cluster_options

FIRST_PORT = 17801
"""Ports of this machine that nothing else is known for; always the same, so that a shell's settings stay right."""


def add_connect(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    """Add the command to the others."""
    parser = verbs.add_parser(
        "connect",
        parents=[shared],
        help="reach a cluster's database, dataset repository and Kubeflow from this machine",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the settings there, passwords included, for `source FILE` (default: cluster.env in the workspace)",
    )
    parser.add_argument(
        "--show", action="store_true", help="print the settings with their passwords; no file unless --write names one"
    )
    parser.add_argument(
        "--first-port",
        type=positive,
        default=FIRST_PORT,
        metavar="N",
        help=f"of this machine; the next ones follow (default: {FIRST_PORT})",
    )
    add_cluster_options(parser, "where Sightline is installed")
    parser.set_defaults(run=_connect)


def _connect(options: argparse.Namespace) -> int:
    from laptop.forwards.connect import connect

    return connect(options)
