"""What a container's files say about memory and cores, and which errors mean that memory ran out."""

import errno
from pathlib import Path

import pytest
import torch

from sightline.errors import SightlineError
from sightline.processes import memory, threads
from sightline.processes.memory import (
    OutOfMemoryError,
    explained,
    kernel_kills_all,
    killed_for_memory,
    memory_limit,
    nearly_out_of_memory,
    oom_kills,
    size,
)

V2 = {"memory.max": "4294967296\n", "memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"}
V1 = {
    "memory/memory.limit_in_bytes": "4294967296\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}
UNLIMITED = {"memory.max": "max\n", "memory.events": "oom_kill 0\n"}
UNLIMITED_V1 = {"memory/memory.limit_in_bytes": "9223372036854771712\n"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("files", "limit", "kills"),
    [(V2, 4 * 2**30, 2), (V1, 4 * 2**30, 2), (UNLIMITED, None, 0), (UNLIMITED_V1, None, 0), ({}, None, 0)],
    ids=["v2", "v1", "v2 without a limit", "v1 without a limit", "no cgroups"],
)
def test_the_limit_and_the_kills_of_a_container(tmp_path, monkeypatch, files, limit, kills):
    write(tmp_path, files)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert (memory_limit(), oom_kills()) == (limit, kills)


@pytest.mark.parametrize(
    ("files", "everything"),
    [({"memory.oom.group": "1\n"}, True), ({"memory.oom.group": "0\n"}, False), (V1, False), ({}, False)],
    ids=["v2, Kubernetes from 1.28 on", "v2 before", "v1", "no cgroups"],
)
def test_whether_the_kernel_kills_the_whole_container(tmp_path, monkeypatch, files, everything):
    write(tmp_path, files)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert kernel_kills_all() is everything


@pytest.mark.parametrize(
    ("used_mib", "cached_mib", "nearly"),
    [(2000, 0, False), (3960, 0, False), (3980, 0, True), (4096, 0, True), (4096, 2000, False), (4096, 100, True)],
)
def test_memory_is_nearly_used_up_when_only_what_cannot_be_taken_back_is_left(
    tmp_path, monkeypatch, used_mib, cached_mib, nearly
):
    stat = f"anon 5\ninactive_file {cached_mib * 2**19}\nactive_file {cached_mib * 2**19}\nworkingset_active_file 7\n"
    write(tmp_path, V2 | {"memory.current": f"{used_mib * 2**20}\n", "memory.stat": stat})
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert nearly_out_of_memory() is nearly


def test_without_a_limit_memory_is_never_nearly_used_up(tmp_path, monkeypatch):
    write(tmp_path, UNLIMITED | {"memory.current": f"{2**40}\n"})
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert nearly_out_of_memory() is False


def test_a_kill_says_what_the_kernel_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    write(tmp_path, V2)
    assert killed_for_memory(kills_before=1) == "killed for memory (limit 4.0 GiB)"
    assert killed_for_memory(kills_before=2).startswith("killed by signal 9, most likely for memory (limit 4.0 GiB; ")
    write(tmp_path, UNLIMITED)
    assert "no limit set" in killed_for_memory(kills_before=0)


@pytest.mark.parametrize(
    ("count", "shown"), [(300 * 2**20, "300 MiB"), (4 * 2**30, "4.0 GiB"), (2**30 + 2**29, "1.5 GiB")]
)
def test_bytes_are_shown_for_people(count, shown):
    assert size(count) == shown


WORKER = "DataLoader worker (pid 12) is killed by signal: "
CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.00 GiB is free."
)


@pytest.mark.parametrize(
    ("error", "message", "worker", "gpu"),
    [
        (torch.OutOfMemoryError(CUDA), "ran out of GPU memory (tried to allocate 2.00 GiB, it has 15.77 GiB)", False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "ran out of GPU memory", False, True),
        (MemoryError("Unable to allocate 3.2 TiB"), "ran out of memory", False, False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ran out of memory", False, False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), "ran out of memory", False, False),
        (RuntimeError(WORKER + "Killed. "), "lost a data loading process, killed", True, False),
        (RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly"), "lost a data loading process", True, False),
        (MemoryError("Caught MemoryError in DataLoader worker process 0."), "ran out of memory", True, False),
    ],
)  # fmt: skip
def test_an_error_of_memory_is_known(error, message, worker, gpu):
    found = explained(error)
    assert isinstance(found, OutOfMemoryError)
    assert (found.worker, found.gpu) == (worker, gpu)
    assert message in found.reason


@pytest.mark.parametrize(
    "text",
    [
        WORKER + "Bus error. It is possible that dataloader's workers are out of shared memory.",
        "Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: unable to write to file </torch_12_3_0>: No space left on device (28)",
        "unable to allocate shared memory(shm) for file </torch_1_2_3>: Success (0)",
        "[Errno 28] No space left on device: '/dev/shm/pym-1'",
    ],
)
def test_shared_memory_that_ran_out_is_known_and_has_a_fix(text):
    found = explained(RuntimeError(text))
    assert type(found) is SightlineError
    assert "--shared-memory 2Gi" in str(found) and "num_workers=0" in str(found)


def test_a_dead_worker_is_known_behind_the_error_that_it_led_to():
    try:
        try:
            raise RuntimeError(WORKER + "Bus error. It is possible that ...")
        except RuntimeError:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos") from None
    except RuntimeError as error:
        assert "shared memory" in str(explained(error))
    try:
        try:
            raise RuntimeError(WORKER + "Killed. ")
        except RuntimeError as cause:
            raise RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly") from cause
    except RuntimeError as error:
        assert "lost a data loading process" in str(explained(error))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("memory"),
        OSError(errno.ENOSPC, "No space left on device", "/shared_volume/work/x"),
        RuntimeError("Caught ValueError in DataLoader worker process 0."),
        SightlineError("There is not enough memory of it."),
    ],
)
def test_any_other_error_stays_as_it_is(error):
    assert explained(error) is error


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({}, 64),
    ],
)
def test_a_containers_cpu_limit_counts(tmp_path, monkeypatch, files, cores):
    write(tmp_path, files)
    monkeypatch.setattr(threads, "CGROUPS", str(tmp_path))
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(64)))
    assert threads.available_cores() == cores
