"""How much memory this process may use, whether somebody was killed for it, and which errors mean that it ran out."""

import contextlib
import errno
import os
import re
from pathlib import Path

from sightline.errors import SightlineError

CGROUPS = Path("/sys/fs/cgroup")
SHARED_MEMORY = "/dev/shm"
NO_LIMIT = 1 << 60  # bytes; cgroup v1 says "no limit" with a number near the largest

LEAST_LEFT = 0.03  # share of the limit
LEAST_LEFT_BYTES = 64 * 2**20  # a process that fills memory takes some 50 MiB between two looks
FILE_CACHE = re.compile(r"^(?:in)?active_file (\d+)$", re.MULTILINE)

# What torch says when a data loading process could not put a batch where the training could read it.
OUT_OF_SHARED_MEMORY = re.compile(
    r"killed by signal: Bus error|unable to (allocate shared memory|(write to|resize) file </torch_)"
    r"|No space left on device.*(/dev/shm|/torch_)|(/dev/shm|/torch_).*No space left on device",
    re.DOTALL,
)
WORKER_KILLED = re.compile(r"DataLoader worker .*(killed by signal: Killed|exited unexpectedly)", re.DOTALL)
OUT_OF_GPU_MEMORY = re.compile(r"CUDA out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED")
OUT_OF_MEMORY = re.compile(r"can't allocate memory|not enough memory|Insufficient memory")


class OutOfMemoryError(SightlineError):
    """A process ran out of memory, or was killed for it."""

    def __init__(self, reason: str, *, worker: bool = False, gpu: bool = False, began: bool = False) -> None:
        super().__init__(f"The process {reason}.")
        self.reason = reason  # follows a subject: "was killed for memory (limit 4.0 GiB)"
        self.worker = worker  # it was a process that loads data
        self.gpu = gpu  # it was the GPU's memory
        self.began = began  # the work had told that it began


def memory_limit() -> int | None:
    """Bytes that this process's container may use; None without a limit."""
    text = _read("memory.max", "memory.limit_in_bytes").strip()
    return int(text) if text.isdecimal() and int(text) < NO_LIMIT else None


def oom_kills() -> int:
    """How many processes of this container the kernel has killed for memory."""
    counted = re.search(r"^oom_kill (\d+)$", _read("memory.events", "memory.oom_control"), re.MULTILINE)
    return int(counted[1]) if counted else 0


def kernel_kills_all() -> bool:
    """Whether the kernel ends the whole container when memory runs out, and not its largest process.

    cgroup v2 does where memory.oom.group is set, as Kubernetes sets it from 1.28 on: nobody is left to go on.
    """
    return _read("memory.oom.group", "").strip() == "1"


def nearly_out_of_memory() -> bool:
    """Whether this container's limit (cgroup v2) is all but reached; what the kernel can take back does not count."""
    limit = memory_limit()
    if limit is None:
        return False
    used = int(_read("memory.current", "") or 0)
    taken_back = sum(map(int, FILE_CACHE.findall(_read("memory.stat", ""))))
    return limit - (used - taken_back) < max(limit * LEAST_LEFT, LEAST_LEFT_BYTES)


def killed_for_memory(kills_before: int) -> str:
    """What to say of a process that got signal 9; the kernel's count of kills at its start tells why."""
    shown = f"limit {size(limit)}" if (limit := memory_limit()) else "no limit set"
    if oom_kills() > kills_before:
        return f"killed for memory ({shown})"
    return f"killed by signal 9, most likely for memory ({shown}; the container's cgroup counts no such kill)"


def size(count: int) -> str:
    """Bytes for people: 512 MiB, 4.0 GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def explained(error: Exception, kills_before: int = 0) -> Exception:
    """An error of memory or shared memory in our words; any other one as it is.

    The errors that led to it count: torch reports a dead worker wherever the training happens to be, in the middle of
    writing a checkpoint for instance, which then fails in its own way.
    """
    if isinstance(error, SightlineError):
        return error
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    text = "\n".join(map(str, chain))
    if OUT_OF_SHARED_MEMORY.search(text):
        return SightlineError(f"Loading data {out_of_shared_memory()}")
    if WORKER_KILLED.search(text):
        return OutOfMemoryError(f"lost a data loading process, {killed_for_memory(kills_before)}", worker=True)
    if OUT_OF_GPU_MEMORY.search(text):
        numbers = {"tried to allocate": r"Tried to allocate ([\d.]+ \w+)", "it has": r"total capacity of ([\d.]+ \w+)"}
        said = ", ".join(
            f"{what} {found[1]}" for what, pattern in numbers.items() if (found := re.search(pattern, text))
        )
        return OutOfMemoryError(f"ran out of GPU memory{f' ({said})' if said else ''}", gpu=True)
    no_memory = any(isinstance(each, MemoryError) or getattr(each, "errno", None) == errno.ENOMEM for each in chain)
    if no_memory or OUT_OF_MEMORY.search(text):
        shown = f" (limit {size(limit)})" if (limit := memory_limit()) else ""
        return OutOfMemoryError(f"ran out of memory{shown}", worker="DataLoader worker" in text)
    return error


def out_of_shared_memory() -> str:
    """What happened to a process that found no room for shared memory, and its fix, to follow a subject."""
    room = ""
    with contextlib.suppress(OSError):
        found = os.statvfs(SHARED_MEMORY)
        room = f", {size(found.f_blocks * found.f_frsize)}"
    return (
        f"ran out of shared memory ({SHARED_MEMORY}{room}). Compile the pipeline with --shared-memory 2Gi (or more), "
        "or load data in the training's own process: num_workers=0 in train_overrides."
    )


def _read(v2: str, v1: str) -> str:
    """A file of this process's cgroup, of either version; inside a container the root is the container's own."""
    own: dict[str, str] = {}  # controller, of which version 2 has no name -> this process's cgroup
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            names, _, path = line.partition(":")[2].partition(":")
            own |= dict.fromkeys(names.split(","), path.lstrip("/"))
    for root, folder, name in ((CGROUPS, own.get("", ""), v2), (CGROUPS / "memory", own.get("memory", ""), v1)):
        for file in (root / folder / name, root / name):
            with contextlib.suppress(OSError):
                return file.read_text()
    return ""
