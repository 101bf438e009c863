"""Fill an image's virtual environment from the locks; runs in a builder stage of docker/Dockerfile.

    install_packages.py lock NAME        all of requirements/NAME.txt but torch and mmcv
    install_packages.py torch BUILD      cpu, or a CUDA version like cu130
    install_packages.py mmcv BUILD OPS   OPS: 1 for compiled ops, 0 for none

Wheels in the wheelhouse win over the index. pip and no faster installer: it obeys the base image's own configuration,
like an index of one's own and its certificate.
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

BUILD = Path("/build")
WHEELHOUSE = BUILD / "wheelhouse"
PYTHON = "/opt/venv/bin/python"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
COMPILER = ("g++", "libc6-dev", "python3-dev")


def main(arguments: list[str]) -> None:
    """Do what the first argument names with the others."""
    {"lock": install_lock, "torch": install_torch, "mmcv": install_mmcv}[arguments[0]](*arguments[1:])


def install_lock(name: str) -> None:
    """Everything pinned but mmcv, which needs torch first when it is compiled."""
    pins = [line for line in _lock(name) if not line.startswith("onedl-mmcv==")]
    rest = Path("/tmp/rest.txt")
    rest.write_text("\n".join(pins))
    _install("-r", str(rest))


def install_torch(build: str) -> None:
    """The CPU build alone, or the CUDA build with the libraries that are locked for it."""
    pin = next(line for line in _lock("torch") if line.startswith("torch=="))
    if build == "cpu":
        if not _install(f"{pin}+cpu", check=False):
            _install(f"{pin}+cpu", "--extra-index-url", TORCH_CPU_INDEX)
        return
    locked = _locked_cuda()
    if build != locked:
        sys.exit(
            f"error: TORCH={build} is neither cpu nor {locked}, for which docker/requirements/cuda.txt has the pins."
        )
    # ===, because == would take a CPU wheel in the wheelhouse for the newer build of the same version.
    if not _install(f"{pin}+{build}", check=False):
        _install(pin.replace("==", "===", 1))
    _install("-r", str(BUILD / "requirements" / "cuda.txt"))


def install_mmcv(build: str, ops: str) -> None:
    """A fitting wheel of the wheelhouse, else compiled here; without ops where they are not wanted or cannot be made."""
    pin = next(line for line in _lock("train") if line.startswith("onedl-mmcv=="))
    wheel = _wheel_with_ops(pin.partition("==")[2], build)
    if ops == "1" and wheel:
        print(f"mmcv: the compiled ops of {wheel.name}", flush=True)
        _install(str(wheel))
    elif ops == "1" and build == "cpu":
        print("mmcv: compiling its ops, which takes about half an hour on two cores", flush=True)
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *COMPILER)
        _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "ninja")
        _install("--no-binary", "onedl-mmcv", "--no-build-isolation", pin, with_ops="1")
    else:
        print(f"mmcv: without compiled ops; those that the configs need run on plain PyTorch ({build})", flush=True)
        _install("--no-binary", "onedl-mmcv", pin)
    if ops == "1" and (wheel or build == "cpu"):
        # A wheel that was made for another torch is found out here, not in a training.
        _run(PYTHON, "-c", "import torch, mmcv._ext")


def _wheel_with_ops(version: str, build: str) -> Path | None:
    """The wheelhouse's mmcv whose compiled module is for the CPU, or for CUDA, as asked."""
    for wheel in sorted(WHEELHOUSE.glob(f"onedl_mmcv-{version}-*.whl")):
        with zipfile.ZipFile(wheel) as content:
            modules = [content.read(name) for name in content.namelist() if name.startswith("mmcv/_ext.")]
        if any((b"libcudart" in module) == (build != "cpu") for module in modules):
            return wheel
    return None


def _locked_cuda() -> str:
    text = (BUILD / "requirements" / "cuda.txt").read_text()
    major, minor = re.findall(r"^cuda-toolkit==(\d+)\.(\d+)\.", text, re.MULTILINE)[0]
    return f"cu{major}{minor}"


def _lock(name: str) -> list[str]:
    return (BUILD / "requirements" / f"{name}.txt").read_text().splitlines()


def _install(*what: str, check: bool = True, with_ops: str = "0") -> bool:
    command = [sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", "--no-cache-dir", "--no-deps"]
    return _run(*command, "--find-links", str(WHEELHOUSE), *what, check=check, with_ops=with_ops)


def _run(*command: str, check: bool = True, with_ops: str = "0") -> bool:
    settings = ["env", "DEBIAN_FRONTEND=noninteractive", "PIP_ROOT_USER_ACTION=ignore", f"MMCV_WITH_OPS={with_ops}"]
    done = subprocess.run([*settings, *command], check=False, capture_output=not check)
    if check and done.returncode:
        sys.exit(f"error: `{' '.join(command)}` failed; its output is above.")
    return done.returncode == 0


if __name__ == "__main__":
    main(sys.argv[1:])
