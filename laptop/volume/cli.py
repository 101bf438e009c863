"""The command sync: its options, and the way to the volume that they name."""

import argparse
from pathlib import Path

from laptop.workspace import LIBRARY


def add_sync(verbs: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    """Add the command to the others."""
    parser = verbs.add_parser("sync", parents=[shared], help="put the helper code on the cluster's volume")
    parser.add_argument(
        "--source", type=Path, default=LIBRARY, metavar="DIR", help="default: this checkout's shared_volume"
    )
    parser.add_argument("--volume", type=Path, metavar="DIR", help="the volume is mounted here: no cluster needed")
    add_cluster_options(parser, "where the helper pod runs")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--watch", action="store_true", help="sync after every change, until stopped")
    mode.add_argument(
        "--status", action="store_true", help="say what lies there, who synced it, and whether it was edited"
    )
    parser.add_argument("--force", action="store_true", help="replace edits made on the volume; they are kept beside")
    parser.set_defaults(run=_sync)


def add_cluster_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options that say which cluster, for `Cluster.find`; `what` says what the namespace is."""
    parser.add_argument("--namespace", help=f"{what} (default: the context's, else kubeflow)")
    parser.add_argument("--context", help="of the kubeconfig (default: its current one)")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG or ~/.kube/config, else the pod's account"
    )


def _sync(options: argparse.Namespace) -> int:
    from laptop.volume.doors import Door, FolderDoor
    from laptop.volume.pod import PodDoor
    from laptop.volume.sync import show_status, sync
    from laptop.volume.watch import watch

    door: Door
    if options.volume:
        door = FolderDoor(options.volume)
    else:
        door = PodDoor.find(options.kubeconfig, options.context, options.namespace)
    if options.status:
        print(show_status(options.source, door))
    elif options.watch:
        watch(options.source, door, options.force, lambda line: print(line, flush=True))
    else:
        print(sync(options.source, door, options.force))
    return 0
