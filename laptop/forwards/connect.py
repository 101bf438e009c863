"""`pipeline.py connect`: database, dataset repository and Kubeflow Pipelines of a cluster, on ports of this machine.

The settings that lead there are shell text: in a file with the passwords, on the screen without.
"""

import argparse
import contextlib
import shlex
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from laptop.forwards.relay import HOST, Relay
from laptop.forwards.ways import STORAGE, login_in, path_on_volume, settings_of, ways_into
from laptop.volume.cluster import Cluster
from laptop.workspace import CONNECTED
from sightline.errors import SightlineError
from sightline.services.storage.base import replacing

FIRST_LINE = "# Written by `pipeline.py connect`, with passwords. It leads to the cluster while that runs."


def connect(options: argparse.Namespace) -> int:
    """Open the ways, say how to use them, and keep them open until Ctrl-C. Returns the exit status."""
    file = None if options.show and not options.write else (options.write or options.workspace / "cluster.env")
    if file:
        _require_ours(file)
    cluster = Cluster.find(options.kubeconfig, options.context, options.namespace)
    settings = settings_of(cluster)
    with _open(cluster, settings, options.first_port) as relays:
        if path_on_volume(settings.get(STORAGE, "")):
            settings[CONNECTED] = cluster.namespace
        if file:
            _write_settings(file, settings)
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
            relay = Relay(way)
            opened.callback(relay.close)
            try:
                way.open().connection.close(timeout=1)
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
    yield _as_exports(settings, hide=not show)
    yield ""
    if file:
        yield f"With the passwords, in another terminal: source {shlex.quote(str(file))}"
    yield "Open until Ctrl-C."


def _as_exports(settings: Mapping[str, str], hide: bool) -> str:
    """Lines for a shell, the passwords in URLs left out where they are to be hidden."""
    shown = {name: _without_password(value) if hide else value for name, value in settings.items()}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(shown.items()))


def _without_password(text: str) -> str:
    """A URL without the password in it; any other text as it is."""
    login = login_in(text)
    user, sign, _ = login.partition(":")
    return text.replace(login, f"{user}:***@", 1) if sign else text


def _require_ours(file: Path) -> None:
    """Refuse to replace a file that holds something else."""
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise SightlineError(f"{file} is not an ordinary file. Choose another with --write.")
        if file.exists() and not file.read_text(errors="replace").startswith(FIRST_LINE):
            raise SightlineError(
                f"{file} was not written by connect, and stays as it is. Choose another file with --write."
            )
    except OSError as error:
        raise SightlineError(f"{file} cannot be read: {error.strerror}. Choose another file with --write.") from None


def _write_settings(file: Path, settings: Mapping[str, str]) -> None:
    """Write the file. A reader finds the old one or the new one."""
    _require_ours(file)
    try:
        with replacing(file) as part:
            part.touch(0o600, exist_ok=False)  # its owner's alone
            part.write_text(f"{FIRST_LINE}\n{_as_exports(settings, hide=False)}\n")
    except OSError as error:
        raise SightlineError(f"{file} cannot be written: {error.strerror}. Choose another file with --write.") from None
