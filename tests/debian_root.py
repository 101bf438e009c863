"""A Debian of one's own to run commands in, as on a new machine: a folder made by mmdebstrap, entered by chroot."""

import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HANDED_ON = re.compile(r"(https?|no)_proxy|PIP_INDEX_URL|UV_DEFAULT_INDEX", re.IGNORECASE)
"""The variables by which the network and the package index are found; nothing else of this machine is seen inside."""
MAKE_SECONDS, COMMAND_SECONDS = 900, 900  # on a busy machine
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
NO_ROOT = "no Debian root can be made here"


class NoRootError(Exception):
    """Why this machine cannot make one."""


@dataclass(frozen=True)
class DebianRoot:
    """The root of its file system, as seen from outside."""

    folder: Path

    def run(self, command: str, inside: str = "/") -> subprocess.CompletedProcess[str]:
        """Run a line of shell in a folder of the root, with /proc; what is mounted for it goes with it."""
        mounted = """mount -t proc proc "$0/proc" && exec chroot "$0" sh -c 'cd "$0" && eval "$1"' "$1" "$2" """
        environment = {name: value for name, value in os.environ.items() if HANDED_ON.fullmatch(name)}
        return subprocess.run(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                mounted,
                self.folder,
                inside,
                command,
            ],
            env={**environment, "PATH": SEARCHED, "HOME": "/root", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )


@contextmanager
def debian_root(suite: str, packages: Sequence[str]) -> Iterator[DebianRoot]:
    """A minimal Debian with these packages, which trusts whom this machine trusts. Gone afterwards.

    Raises:
        NoRootError: mmdebstrap or a right is missing, or no mirror was reached.
    """
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        raise NoRootError(f"{NO_ROOT}: run the tests as root, with mmdebstrap (Debian: apt install mmdebstrap)")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        raise NoRootError(f"{NO_ROOT}: mounting is not allowed")
    # Not pytest's folder, which keeps what the last three sessions left.
    with tempfile.TemporaryDirectory(prefix="sightline-root-", ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "root"
        _make(root, suite, packages)
        authorities = ssl.get_default_verify_paths().cafile
        if authorities:
            shutil.copyfile(authorities, root / AUTHORITIES)
        yield DebianRoot(root)


def _make(root: Path, suite: str, packages: Sequence[str]) -> None:
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--aptopt={line}" for line in _apt_options()]
    command += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
    # With its lists of packages, as an installed machine has them.
    command += ["--skip=cleanup/apt", "--components=main", suite, str(root), *_mirror()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_SECONDS, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["mmdebstrap failed"])[-1]
        raise NoRootError(f"{NO_ROOT}: {last}")


def _apt_options() -> list[str]:
    """How this machine's apt reaches its mirror, and what it checks there."""
    listed = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    return re.findall(r"^Acquire::(?:https?|Check|Retries).*;$", listed, re.MULTILINE)


def _mirror() -> list[str]:
    """The mirror of Debian that this machine's apt uses; none where it knows none, for mmdebstrap knows one."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return [mirror for mirror in dict.fromkeys(listed) if "security" not in mirror][:1]
