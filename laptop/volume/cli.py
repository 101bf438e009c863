"""The commands for a cluster that need no Kubeflow: `sync` and `connect`."""

import argparse
from pathlib import Path

from laptop.options import positive
from laptop.workspace import LIBRARY

FIRST_PORT = 17801  # that nothing else is known for; always the same, so that a shell's settings stay right


def _sync_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, default=LIBRARY, metavar="DIR", help="default: this checkout's shared_volume"
    )
    parser.add_argument(
        "--volume", type=Path, metavar="DIR", help="folder where the volume is mounted; no cluster is needed then"
    )
    add_cluster_options(parser, "where the helper pod runs")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--watch", action="store_true", help="sync after every change, until stopped")
    mode.add_argument(
        "--status",
        action="store_true",
        help="say what is on the volume, who synced it, and whether it was edited there",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace edits made on the volume; a copy of them stays there"
    )


def _sync(options: argparse.Namespace) -> int:
    from laptop.volume.sync import Door, FolderDoor, PodDoor, show_status, sync, watch

    cluster = (options.kubeconfig, options.context, options.namespace)
    door: Door = FolderDoor(options.volume) if options.volume else PodDoor(*cluster)
    if options.watch:
        watch(options.source, door, options.force)
    print(show_status(options.source, door) if options.status else sync(options.source, door, options.force))
    return 0


def _connect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="write the settings to this file, passwords included, for `source FILE` (default: cluster.env in the workspace)",
    )
    parser.add_argument(
        "--show", action="store_true", help="print the settings with their passwords; no file unless --write names one"
    )
    parser.add_argument(
        "--first-port",
        type=positive,
        default=FIRST_PORT,
        metavar="N",
        help=f"first port to use on this machine; the next ones follow (default: {FIRST_PORT})",
    )
    add_cluster_options(parser, "where Sightline is installed")


def _connect(options: argparse.Namespace) -> int:
    from laptop.forwards.connect import connect

    return connect(options)


def add_cluster_options(parser: argparse.ArgumentParser, what: str) -> None:
    """The options that say which cluster, for `Cluster.find`; `what` says what the namespace is."""
    parser.add_argument("--namespace", help=f"{what} (default: the context's, else kubeflow)")
    parser.add_argument("--context", help="context of the kubeconfig (default: its current one)")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG or ~/.kube/config, else the pod's account"
    )


CLUSTER_COMMANDS = {
    "sync": ("put the helper code on the cluster's volume", _sync_options, _sync),
    "connect": (
        "reach a cluster's database, dataset repository and Kubeflow from this machine",
        _connect_options,
        _connect,
    ),
}
