"""`pipeline.py connect`: database, dataset repository and Kubeflow Pipelines of a cluster, on ports of this machine."""

import argparse
import contextlib
import shlex
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from laptop.forwards.relay import HOST, Relay
from laptop.forwards.settings_file import as_exports, require_ours, write_settings
from laptop.forwards.ways import STORAGE, path_on_volume, settings_of, ways_into
from laptop.volume.cluster import Cluster
from laptop.workspace import CONNECTED
from sightline.errors import SightlineError

FILE = "cluster.env"
"""In the workspace, where no other is named."""


def connect(options: argparse.Namespace) -> int:
    """Open the ways, say how to use them, and keep them open until Ctrl-C. Returns the exit status.

    Raises:
        SightlineError: a way cannot be opened, or the settings cannot be written.
    """
    file = None if options.show and not options.write else (options.write or options.workspace / FILE)
    if file:
        require_ours(file)
    cluster = Cluster.find(options.kubeconfig, options.context, options.namespace)
    settings = settings_of(cluster)
    with _open(cluster, settings, options.first_port) as relays:
        if path_on_volume(settings.get(STORAGE, "")):
            settings[CONNECTED] = cluster.namespace
        if file:
            write_settings(file, settings)
        # A shell's `kill` ends it as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            for relay in relays:
                relay.start()
            print("\n".join(_told(cluster, settings, file, options.show)), flush=True)
            signal.pause()
    print("closed", flush=True)
    return 0


@contextlib.contextmanager
def _open(cluster: Cluster, settings: dict[str, str], first_port: int) -> Iterator[list[Relay]]:
    """Take a port for each way and try it; the settings lead there afterwards."""
    with contextlib.ExitStack() as opened:
        relays = []
        for way in ways_into(cluster, settings, first_port):
            relay = Relay(way, lambda line: print(line, flush=True))
            opened.callback(relay.close)
            try:
                relay.try_once()
            except SightlineError as error:
                raise SightlineError(f"There is no way to the {way.name}: {error}") from None
            settings.update(way.settings)
            print(f"{way.name:<18}  {HOST}:{way.port} -> {way.where}", flush=True)
            relays.append(relay)
        if not relays:
            raise SightlineError(
                f"Nothing of the installation in namespace {cluster.namespace} lies inside the cluster: use its settings as "
                f"they stand: kubectl -n {cluster.namespace} get configmap sightline-config -o yaml."
            )
        yield relays


def _told(cluster: Cluster, settings: Mapping[str, str], file: Path | None, show: bool) -> Iterator[str]:
    if CONNECTED in settings:
        yield (
            f"{'storage':<18}  {settings[STORAGE]} is on the volume, which no laptop reaches: what reads or writes it (publish, "
            "diff, verify, export) works in the helper's pod: "
            f"kubectl -n {cluster.namespace} exec deployment/sightline-helper -- python /opt/sightline/pipeline.py …"
        )
    yield ""
    yield as_exports(settings, hide=not show)
    yield ""
    if file:
        yield f"With the passwords, in another terminal: source {shlex.quote(str(file))}"
    yield "Open until Ctrl-C."
