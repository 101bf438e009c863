"""Make a virtual environment from a lock: `python3 laptop/setup_environment.py LOCK VENV [PYTHON]`. Needs Python and pip alone.

It is made with the Python that runs this, or with another that torch's wheel is at hand for, where this has none and PYTHON does not
say that it was asked for. Of any Python, a whole one is left as it is, unless PYTHON says so.

Everything is pinned, so nothing is resolved. torch comes in a build for the machine: the CPU build where there is no
NVIDIA GPU, the CUDA build with its libraries where there is one.
"""

from __future__ import annotations  # An older Python is to read this file to its end, and be refused with a sentence.

import hashlib
import importlib.util
import os
import platform
import ssl
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "docker" / "requirements"
TORCH = REQUIREMENTS / "torch.txt"
UV = "uv==0.13.8"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
STAMP = "sightline-lock"
PYTHONS = ((3, 11), (3, 13))  # the oldest and the newest


class SetupError(Exception):
    """What went wrong, and what to do."""


def main(arguments: list[str]) -> int:
    """Make or update the environment; does nothing when the lock has not changed."""
    lock, folder, asked = REQUIREMENTS / f"{arguments[0]}.txt", Path(arguments[1]), bool(arguments[2:])
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in (lock, TORCH, Path(__file__)))).hexdigest()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == digest and _python_serves(folder, asked):
        return 0
    needs_torch = any(line.startswith("onedl-mmengine==") for line in lock.read_text().splitlines())
    if needs_torch and not asked and (other := _python_with_torch()):
        print(
            f"of torch your folder of wheels has none for Python {platform.python_version()}: taking {other}",
            flush=True,
        )
        os.execvp(other, [other, __file__, *arguments])
    try:
        _require_python()
        python = platform.python_version()
        print(f"setting up {folder} from {lock.name} with Python {python} (a few minutes, once)", flush=True)
        # From scratch, so that nothing of an older lock or of an interrupted set-up stays. Of a link venv would empty what
        # it leads to, and then refuse the link.
        venv.create(folder.resolve(), with_pip=True, clear=True, symlinks=True)
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
        installer = _Installer(folder)
        if needs_torch:
            installer.install_torch()
        installer.install("-r", str(lock))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stamp.write_text(digest)
    print(f"{folder} is ready", flush=True)
    return 0


class _Installer:
    """uv in the new environment, with the wheel folders that pip is told of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # mmcv is built in seconds; the few compiled ops that our configs need are supplied on plain PyTorch.
        self.environment = os.environ | {"MMCV_WITH_OPS": "0", "UV_NO_PROGRESS": "1"}
        if _has_certificates():
            # As pip does: a network's own authority is known to the system, and not to uv's list.
            self.environment.setdefault("UV_SYSTEM_CERTS", "1")
        links = _find_links(str(folder / "bin" / "python"))
        if links:
            self.environment.setdefault("UV_FIND_LINKS", ",".join(links))

    def install(self, *what: str, check: bool = True, links: bool = True) -> bool:
        command = [str(self.folder / "bin" / "uv"), "pip", "install", "--quiet", "--no-deps"]
        # Bytecode once, on all cores: else each first import compiles, and where Python may not write, every import does.
        command += ["--compile-bytecode", "--python", str(self.folder / "bin" / "python")]
        environment = self.environment if links else {**self.environment, "UV_FIND_LINKS": ""}
        return _run([*command, *what], environment, check)

    def install_torch(self) -> None:
        """The build that fits the machine."""
        if not _has_two_builds():
            self.install("-r", str(TORCH))
        elif _has_gpu():
            self._install_cuda()
        elif not (
            self.install(f"{_torch()}+cpu", check=False)
            or self.install(f"{_torch()}+cpu", "--index", TORCH_CPU_INDEX, check=False)
        ):
            print("no CPU build of torch is in reach; installing the CUDA build (several GB)", flush=True)
            self._install_cuda()

    def _install_cuda(self) -> None:
        # A CPU wheel in one of the folders would count as a newer build of the same version.
        self.install("-r", str(TORCH), "-r", str(REQUIREMENTS / "cuda.txt"), links=False)


def _python_serves(folder: Path, asked: bool) -> bool:
    """Whether the environment's Python is still on this machine, and is of this one's version where that was asked for."""
    this = "python{}.{}".format(*sys.version_info)
    return (folder / "bin" / "python").exists() and (not asked or (folder / "lib" / this).is_dir())


def _python_with_torch() -> str:
    """Where the folders of wheels have torch for other Pythons only, the newest of those that has venv; else empty."""
    if not _has_two_builds() or _has_gpu():
        return ""
    said = [os.environ.get(name, "") for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS")]  # also of a Python without pip
    links = [*_find_links(sys.executable), *" ".join(said).replace(",", " ").split()]
    wheels = [file.name for each in links for file in Path(each.removeprefix("file://")).glob("torch-*.whl")]

    def is_at_hand(minor: int) -> bool:
        start = _torch().replace("==", "-")
        return any(name.startswith(start) and f"-cp3{minor}-cp3{minor}-" in name for name in wheels)

    if is_at_hand(sys.version_info[1]):
        return ""
    (_, oldest), (_, newest) = PYTHONS
    pythons = [f"python3.{minor}" for minor in range(newest, oldest - 1, -1) if is_at_hand(minor)]
    return next((each for each in pythons if _has_venv(each)), "")


def _has_venv(python: str) -> bool:
    """Whether there is such a program, with venv; pyenv leaves names on the PATH that run nothing."""
    try:
        return (
            subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def _require_python() -> None:
    this = f"{platform.python_version()} ({sys.executable})"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        wanted = " to ".join(".".join(map(str, each)) for each in PYTHONS)
        raise SetupError(
            f"Python {wanted} is needed, this is {this}. "
            "Install one with venv, or name one: make setup PYTHON=/path/to/python3"
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            f"Python {this} has no venv. Install it (Debian: apt install python3-venv), "
            "or name a Python that has it: make setup PYTHON=/path/to/python3"
        )


def _torch() -> str:
    """The pin of torch, whatever its build."""
    return next(line for line in TORCH.read_text().splitlines() if line.startswith("torch=="))


def _has_two_builds() -> bool:
    """Only for Linux on x86-64 there are a CPU build and a CUDA build of torch to choose from."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def _has_gpu() -> bool:
    return Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists()


def _has_certificates() -> bool:
    """Whether the system has a list of authorities (Debian: ca-certificates)."""
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())))


def _find_links(python: str) -> list[str]:
    """Wheel folders from the configuration of a Python's pip, which uv does not read."""
    asked = [python, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found = []
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        if key.rpartition(".")[2] == "find-links":
            found += value.strip("'\"").replace("\\n", " ").split()
    return list(dict.fromkeys(found))


def _run(command: list[str], environment: dict[str, str] | None = None, check: bool = True) -> bool:
    done = subprocess.run(command, env=environment, capture_output=not check, text=True, check=False)
    if check and done.returncode != 0:
        raise SetupError(
            f"`{' '.join(command)}` failed; its output is above. Check the network, then run the same command again."
        )
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
