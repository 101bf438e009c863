"""`pipeline.py sync` onto a volume that is mounted here: what travels, what lies there, and every process killed anywhere."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from laptop.volume import doors
from laptop.volume import sync as laptop_sync
from laptop.volume.doors import FolderDoor, HeldError, LostError
from laptop.volume.sync import ChangedWhileSentError, EditedError
from sightline import errors
from sightline.services.runs.closure import digest_files
from sightline.services.runs.freeze import freeze
from sightline.services.runs.live_files import list_files
from tests.live_code import append, copy_live
from tests.workspace import REPOSITORY, run_pipeline

FILES = 200
FEW = 4
Done = subprocess.CompletedProcess[str]

# What a test puts into the process beside the volume, by a module that Python imports at its start. The audit hook is
# called before the process opens, renames, links or removes anything; `at_volume` says whether that is on the volume.
BESIDE = """
import io, os, signal, sys, time
def at_volume(event, arguments):
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return False
    watched = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.utime", "os.truncate")
    paths = [os.fspath(each) for each in arguments if isinstance(each, (str, os.PathLike))]
    return event in watched and any("volume" in str(path) or "code" in str(path) for path in paths)
if "-c" in sys.orig_argv:
"""
KILL = """
    left = int(os.environ["KILL_AT"])
    def kill(event, arguments):
        global left
        if at_volume(event, arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(kill)
"""
KILL_ONCE = """
    if not os.path.exists(os.environ["OUTPUT"]):
        open(os.environ["OUTPUT"], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
"""
WAIT_BEFORE_SWITCH = """
    def wait(event, arguments):
        if event == "os.symlink":
            open(os.environ["OUTPUT"], "w").close()
            while os.path.exists(os.environ["OUTPUT"]):
                time.sleep(0.02)
    sys.addaudithook(wait)
"""
EDIT_BEFORE_SWITCH = """
    def edit(event, arguments):
        if event == "os.symlink":
            with open(os.environ["OUTPUT"], "w") as file:
                file.write("MINE = True\\n")
    sys.addaudithook(edit)
"""
TAP = """
    class Tap(io.RawIOBase):
        output, source = open(os.environ["OUTPUT"], "wb", buffering=0), sys.stdin.buffer.raw
        def readable(self):
            return True
        def readinto(self, room):
            size = self.source.readinto(room)
            self.output.write(room[:size])
            return size
    sys.stdin = io.TextIOWrapper(io.BufferedReader(Tap()))
"""
NO_EXCHANGE = """
    import ctypes
    ctypes.CDLL = lambda *_, **__: object()
"""
FULL = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""
LONG_BEFORE_SWITCH = """
    plain_sleep = time.sleep
    time.sleep = lambda seconds: plain_sleep(min(seconds, 0.2))
    sys.addaudithook(lambda event, _: plain_sleep(3) if event == "os.symlink" else None)
"""
STOPPED = """
    os.kill(os.getpid(), signal.SIGSTOP)
"""
IMPATIENT = """
    plain_alarm = signal.alarm
    signal.alarm = lambda seconds: plain_alarm(min(seconds, 1))
"""


def hooked(folder: Path, *code: str, **variables: object) -> dict[str, str]:
    """The environment in which the process beside the volume runs such code first."""
    (folder / "hook").mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(BESIDE + "".join(code))
    return {"PYTHONPATH": str(folder / "hook"), **{name: str(value) for name, value in variables.items()}}


@pytest.fixture
def source(tmp_path) -> Path:
    """A checkout of 200 small files of helper code."""
    folder = tmp_path / "source"
    for number in range(FILES - 1):
        file = folder / "sightline" / f"part_{number % 7}" / f"module_{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"NUMBER = {number}\n" * 20)
    (folder / "sightline" / "__init__.py").touch()
    return folder


@pytest.fixture
def few(tmp_path) -> Path:
    """A checkout of so few files that a sync of it can be killed at every step."""
    folder = tmp_path / "few"
    for number in range(FEW):
        edit(folder, f"sightline/part_{number % 2}/module_{number}.py", f"NUMBER = {number}\n")
    edit(folder, "sightline/__init__.py", "")
    return folder


@pytest.fixture
def volume(tmp_path) -> Path:
    """An empty volume."""
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


def sync(source: Path, volume: Path, *options: str, environment: Mapping[str, str] | None = None) -> Done:
    command = ("sync", "--source", str(source), "--volume", str(volume))
    return run_pipeline(*command, *options, environment=environment)


def synced(source: Path, volume: Path, *options: str) -> str:
    """What a sync that must succeed says."""
    done = sync(source, volume, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert live_digest(volume) == digest(source)
    return done.stdout


def refused(source: Path, volume: Path, *options: str) -> str:
    """What a sync that must fail says, in one sentence and no traceback."""
    done = sync(source, volume, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    return done.stderr


def digest(folder: Path) -> str:
    return digest_files(folder, list_files(folder))


def live_digest(volume: Path) -> str:
    """The digest of the live copy, which must be there."""
    assert (volume / "code" / "sightline" / "__init__.py").is_file()
    return digest((volume / "code").resolve())


def copies(volume: Path) -> set[str]:
    return {path.name for path in (volume / "copies").iterdir()} - {".lock"}


def left_behind(volume: Path) -> list[str]:
    """What only a sync at work has on a volume."""
    return [path.name for place in (volume, volume / "copies") for path in place.glob(".*") if path.name != ".lock"]


def edit(folder: Path, file: str = "sightline/part_0/module_0.py", text: str = "EDITED = True\n") -> Path:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# What travels


def test_of_200_files_of_which_one_has_changed_only_that_one_travels(source, volume, tmp_path):
    assert f"{FILES} of {FILES} files" in synced(source, volume)
    changed = edit(source, text="CHANGED = 1\n" * 100)
    tap = tmp_path / "taken"
    done = sync(source, volume, environment=hooked(tmp_path, TAP, OUTPUT=tap))
    assert done.returncode == 0, done.stderr
    taken = tap.read_bytes()
    assert live_digest(volume) == digest(source)
    assert taken.count(b"CHANGED = 1\n" * 100) == 1
    unchanged = [file for file in source.rglob("*.py") if file.stat().st_size and file != changed]
    assert not [file for file in unchanged if file.read_bytes() in taken]


@pytest.mark.slow
def test_the_line_says_how_many_files_and_bytes_were_sent_and_deleted(source, volume):
    synced(source, volume)
    edit(source, text="#" * 1234)
    (source / "sightline" / "part_1" / "module_1.py").unlink()
    assert re.fullmatch(
        rf"code_digest {digest(source)}: 1 of 199 files, 1\.2 kB, to \S+; 1 deleted\n", synced(source, volume)
    )


def test_what_is_gone_here_is_gone_there_and_a_file_can_become_a_folder(source, volume):
    synced(source, volume)
    shutil.rmtree(source / "sightline" / "part_3")
    edit(source, "sightline/part_3", "now a file without an ending\n")
    synced(source, volume)
    assert (volume / "code" / "sightline" / "part_3").is_file()


def test_junk_and_empty_folders_stay_here(source, volume):
    for junk in (
        "sightline/__pycache__/x.cpython-311.pyc",
        "sightline/.x.py.swp",
        "sightline/x.py~",
        "sightline/.ipynb_checkpoints/x.py",
        ".git/HEAD",
        "x.tmp",
    ):
        edit(source, junk, "junk(")
    (source / "empty").mkdir()
    synced(source, volume)
    there = {path.relative_to(volume / "code").as_posix() for path in (volume / "code").rglob("*") if path.is_file()}
    assert there == {file.as_posix() for file in list_files(source)} | {".synced.json"}
    assert len(there) == FILES + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["ein größerer Name.py", "with\nnewline.txt", "'quotes\"", "a b", "-dash", "日本語.txt", "sightline/a.py/b.txt"],
)
def test_file_names_of_all_kinds_arrive(source, volume, name):
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_bytes(b"x = 1\n")
    synced(source, volume)
    assert (volume / "code" / name).read_bytes() == b"x = 1\n"


@pytest.mark.parametrize("note", ["[1]", "{}", '{"files": {}}', "no JSON"])
def test_a_note_that_says_nothing_is_none(source, volume, note):
    synced(source, volume)
    (volume / "code" / ".synced.json").write_text(note)
    assert "what was there before (brought by no sync) is kept as copies/" in synced(source, volume)
    assert json.loads((volume / "code" / ".synced.json").read_text())["digest"]


def test_every_byte_and_large_files_arrive(source, volume):
    content = bytes(range(256)) * 40_000 + os.urandom(1_000_003)
    (source / "configs").mkdir()
    (source / "configs" / "weights.bin").write_bytes(content)
    (source / "configs" / "empty.bin").touch()
    synced(source, volume)
    assert (volume / "code" / "configs" / "weights.bin").read_bytes() == content


def test_the_same_code_again_sends_nothing_and_makes_no_copy(source, volume):
    synced(source, volume)
    before = copies(volume)
    assert "has it already, nothing sent" in synced(source, volume)
    assert copies(volume) == before


@pytest.mark.slow
def test_the_digest_is_the_one_that_a_snapshot_of_the_volume_names(volume):
    """With this checkout's own code, which the default of --source is."""
    done = run_pipeline("sync", "--volume", str(volume))
    assert done.returncode == 0, done.stderr
    frozen = freeze(volume, "mask_rcnn_r18_small", "desk")
    assert f"code_digest {frozen.code_digest}:" in done.stdout


# What is refused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\ndef broken(:\n    pass\n", r"module_0\.py, line 2: invalid syntax"),
        ("x = 'open\n", r"module_0\.py, line 1: unterminated string literal"),
        ("x = 1\0\n", r"module_0\.py, line 1: source code string cannot contain null bytes"),
    ],
)
def test_a_syntax_error_here_is_named_before_anything_is_sent(source, volume, text, reason):
    edit(source, text=text)
    assert re.search(reason, refused(source, volume))
    assert list(volume.iterdir()) == [], "somebody was at the volume"


def test_a_folder_without_helper_code_is_refused(tmp_path, source, volume):
    assert "holds no helper code (no sightline/__init__.py)" in refused(tmp_path, volume)
    assert "there is no folder" in refused(source, tmp_path / "nowhere")


def test_an_edit_on_the_volume_is_refused_by_name_and_kept_when_forced(source, volume):
    synced(source, volume)
    edit(volume / "code", "sightline/part_1/module_1.py", "MINE = 'an hour of work'\n")
    edit(volume / "code", "sightline/part_1/mine.py", "MINE = 'another hour'\n")
    (volume / "code" / "sightline" / "part_2" / "module_2.py").unlink()
    before = live_digest(volume)
    edit(source)

    told = refused(source, volume)
    for name in ("part_1/mine.py", "part_1/module_1.py", "part_2/module_2.py"):
        assert f"sightline/{name}" in told
    assert "module_0" not in told and "--force" in told
    assert live_digest(volume) == before

    kept = re.search(r"kept as (copies/\S+)", synced(source, volume, "--force"))
    assert kept and digest(volume / kept[1]) == before


@pytest.mark.slow
def test_an_edit_on_the_volume_that_was_made_here_too_is_no_obstacle(source, volume):
    synced(source, volume)
    edit(volume / "code", text="SAME = True\n")
    edit(source, text="SAME = True\n")
    assert "0 of 200 files" in synced(source, volume)
    assert "has it already" in synced(source, volume)


@pytest.mark.slow
def test_edits_replaced_by_force_outlive_many_syncs_and_plain_copies_do_not(source, volume):
    synced(source, volume)
    edit(volume / "code", text="MINE = True\n")
    mine = live_digest(volume)
    synced(source, volume, "--force")
    for number in range(8):
        edit(source, text=f"NUMBER = {number}\n")
        synced(source, volume)
    digests = [digest(volume / "copies" / name) for name in copies(volume)]
    assert mine in digests
    assert len(digests) == 1 + 5 + 1, "the live one, five before it, and the edited one"
    assert left_behind(volume) == []


@pytest.mark.slow
def test_an_edit_while_the_sync_runs_is_noticed_before_the_switch(source, volume, monkeypatch):
    synced(source, volume)
    edit(source)

    def send(*arguments: object) -> None:
        edit(volume / "code", "sightline/part_1/module_1.py", "MINE = True\n")
        plain_send(*arguments)

    plain_send = laptop_sync._send
    monkeypatch.setattr(laptop_sync, "_send", send)
    with pytest.raises(EditedError, match=r"while this sync ran: sightline/part_1/module_1\.py"):
        laptop_sync.sync(source, FolderDoor(volume), force=True)
    assert (volume / "code" / "sightline" / "part_1" / "module_1.py").read_text() == "MINE = True\n"
    assert len(copies(volume)) == 1 and left_behind(volume) == []


@pytest.mark.slow
def test_an_edit_at_the_moment_of_the_switch_is_told_and_kept(source, volume, tmp_path):
    synced(source, volume)
    edit(source)
    file = volume / "code" / "sightline" / "part_1" / "module_1.py"
    done = sync(source, volume, environment=hooked(tmp_path, EDIT_BEFORE_SWITCH, OUTPUT=file.resolve()))
    assert done.returncode == 0, done.stderr
    assert (
        "edited at the very moment of the switch, so not in the new copy: sightline/part_1/module_1.py" in done.stdout
    )
    kept = re.search(r"kept as (copies/\S+)", done.stdout)
    assert kept and (volume / kept[1] / "sightline" / "part_1" / "module_1.py").read_text() == "MINE = True\n"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["EDITED = 2222\n", "EDITED = 22\n", "EDITED = 222222\n"])
def test_a_file_that_is_saved_while_it_is_sent_replaces_nothing(source, volume, monkeypatch, text):
    synced(source, volume)
    before = live_digest(volume)
    file = edit(source, text="EDITED = 1111\n")

    def send(*arguments: object) -> None:
        file.write_text(text)
        plain_send(*arguments)

    plain_send = laptop_sync._send
    monkeypatch.setattr(laptop_sync, "_send", send)
    with pytest.raises(ChangedWhileSentError, match=r"sightline/part_0/module_0\.py"):
        laptop_sync.sync(source, FolderDoor(volume), force=False)
    assert (live_digest(volume), left_behind(volume)) == (before, [])


def test_a_volume_that_takes_no_more_is_told_and_keeps_its_code(source, volume, tmp_path):
    synced(source, volume)
    before = live_digest(volume)
    (source / "large.bin").write_bytes(bytes(30_000_000))
    done = sync(source, volume, environment=hooked(tmp_path, FULL))
    assert done.returncode == 1
    assert done.stderr == "error: The volume cannot be synced: File too large.\n"
    assert (live_digest(volume), left_behind(volume)) == (before, [])


# Other ways in which code came to the volume


def test_a_real_folder_becomes_a_kept_copy_and_is_never_missing(source, volume):
    shutil.copytree(source, volume / "code")
    edit(volume / "code", "sightline/mine.py", "MINE = True\n")
    before = live_digest(volume)
    told = synced(source, volume)
    kept = re.search(r"kept as (copies/\S+)", told)
    assert kept and digest(volume / kept[1]) == before
    assert (volume / "code").is_symlink()
    assert "for a moment" not in told, "this machine's file system can exchange two names"


def test_where_names_cannot_be_exchanged_the_moment_without_code_is_told(source, volume, tmp_path):
    shutil.copytree(source, volume / "code")
    edit(source)
    done = sync(source, volume, environment=hooked(tmp_path, NO_EXCHANGE))
    assert done.returncode == 0, done.stderr
    assert "for a moment there was no code" in done.stdout
    assert live_digest(volume) == digest(source)


def test_a_link_that_leads_elsewhere_is_replaced_and_what_it_led_to_stays(source, volume, tmp_path):
    elsewhere = shutil.copytree(source, tmp_path / "elsewhere")
    (volume / "code").symlink_to(elsewhere)
    edit(source)
    before = digest(elsewhere)
    synced(source, volume)
    assert digest(elsewhere) == before


# --status


def test_status_of_an_empty_volume(source, volume):
    assert "holds no helper code yet" in sync(source, volume, "--status").stdout
    assert list(volume.iterdir()) == []


def test_status_tells_digest_difference_author_commit_and_edits(source, volume):
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        done = subprocess.run(
            ("git", "-C", str(source), *identity, *arguments), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "start")
    commit = git("rev-parse", "HEAD")
    synced(source, volume)
    status = sync(source, volume, "--status").stdout.splitlines()
    assert status[0] == f"code_digest {digest(source)} on {volume}"
    assert status[1] == "same as here"
    assert re.fullmatch(
        rf"synced by \S+@\S+ on 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC from commit {commit[:12]}", status[2]
    )
    assert status[3] == "not edited since"

    edit(source)
    synced(source, volume)
    edit(source, "sightline/new.py")
    edit(volume / "code", "sightline/part_1/module_1.py", "MINE = True\n")
    edit(volume / "code", "sightline/theirs.py", "THEIRS = True\n")
    before = live_digest(volume)
    status = sync(source, volume, "--status").stdout.splitlines()
    assert status[:5] == [
        f"code_digest {before} on {volume}",
        f"here code_digest {digest(source)}:",
        "  changed: sightline/part_1/module_1.py",
        "  only here: sightline/new.py",
        "  only on the volume: sightline/theirs.py",
    ]
    assert status[5].endswith(f"from commit {commit[:12]} with uncommitted changes")
    assert status[6] == "edited since: sightline/part_1/module_1.py, sightline/theirs.py"


# Two at once


@pytest.mark.slow
def test_of_two_syncs_at_once_one_wins_and_the_other_says_whose_it_is_and_since_when(source, volume, tmp_path):
    synced(source, volume)
    edit(source)
    paused = tmp_path / "paused"
    with ThreadPoolExecutor() as pool:
        first = pool.submit(sync, source, volume, environment=hooked(tmp_path, WAIT_BEFORE_SWITCH, OUTPUT=paused))
        try:
            wait_for(paused.exists)
            told = refused(source, volume)
            status = sync(source, volume, "--status")
        finally:
            paused.unlink(missing_ok=True)
    assert re.search(r"being synced by \S+@\S+ since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\. Nothing was sent", told)
    assert "not edited since" in status.stdout, "looking needs no lock"
    assert first.result().returncode == 0
    assert live_digest(volume) == digest(source)


@pytest.mark.slow
def test_many_syncs_of_different_code_at_once_leave_one_of_them_whole(source, volume, tmp_path):
    synced(source, volume)
    sources = []
    for number in range(4):
        sources.append(shutil.copytree(source, tmp_path / f"source-{number}"))
        for file in sources[-1].rglob("*.py"):
            file.write_text(f"SOURCE = {number}\n")

    def attempt(folder: Path) -> str:
        try:
            laptop_sync.sync(folder, FolderDoor(volume), force=False)
        except HeldError:
            return ""
        return digest(folder)

    with ThreadPoolExecutor(4) as pool:
        won = set(pool.map(attempt, sources * 3)) - {""}
    assert won and live_digest(volume) in won
    assert left_behind(volume) == []


# Killed


def as_link(few: Path, volume: Path) -> None:
    laptop_sync.sync(few, FolderDoor(volume), force=False)


def after_many_syncs(few: Path, volume: Path) -> None:
    for number in range(6):
        edit(few, text=f"NUMBER = {number}\n")
        laptop_sync.sync(few, FolderDoor(volume), force=False)


def as_folder(few: Path, volume: Path) -> None:
    shutil.copytree(few, volume / "code")


def nothing(few: Path, volume: Path) -> None:
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "more", "may_be_missing"),
    [
        pytest.param(as_link, "", False, id="replacing a link"),
        pytest.param(after_many_syncs, "", False, id="and removing an old copy"),
        pytest.param(as_folder, "", False, id="converting a real folder"),
        pytest.param(as_folder, NO_EXCHANGE, True, id="converting it where names cannot be exchanged"),
        pytest.param(nothing, "", True, id="the first sync"),
    ],
)
def test_the_process_beside_the_volume_is_killed_before_each_thing_it_does(
    few, volume, tmp_path, monkeypatch, before, more, may_be_missing
):
    before(few, volume)
    missing = 0
    for at in range(1, 200):
        shutil.rmtree(tmp_path / "now", ignore_errors=True)
        now = shutil.copytree(volume, tmp_path / "now" / "volume", symlinks=True)
        old = digest(now / "code") if (now / "code").exists() else ""
        edit(few, text=f"KILLED_AT = {at}\n")
        (few / "sightline" / "part_1" / "module_1.py").unlink(missing_ok=True)
        for name, value in hooked(tmp_path, KILL, more, KILL_AT=at).items():
            monkeypatch.setenv(name, value)
        try:
            laptop_sync.sync(few, FolderDoor(now), force=False)
        except LostError as error:
            assert "killed by signal 9" in str(error)
        else:
            break
        finally:
            monkeypatch.delenv("PYTHONPATH")
        if (now / "code").exists():
            assert digest(now / "code") in (old, digest(few)), f"a mix at step {at}"
        else:
            missing += 1
        laptop_sync.sync(few, FolderDoor(now), force=False)
        assert live_digest(now) == digest(few)
        assert left_behind(now) == []
        assert not old or old in {digest(now / "copies" / name) for name in copies(now)}, "the old copy is lost"
    assert at > 10, "the process was not killed at all"
    assert may_be_missing or missing == 0


MESSAGE = "{} = True\n".ljust(9720, "#")
"""A file that makes one message to the process beside the volume: with its tar header as much as tar writes at once."""

DYING_LAPTOP = """
import os, signal, sys
left = int(sys.argv[1])
sys.path.insert(0, "shared_volume")
from laptop.volume.doors import Channel
def dying(method):
    def call(*arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments)
    return call
Channel.write, Channel.hear = dying(Channel.write), dying(Channel.hear)
from laptop.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_the_laptops_process_is_killed_before_each_message(few, volume, tmp_path):
    laptop_sync.sync(few, FolderDoor(volume), force=False)
    for number in range(FEW):
        edit(few, f"sightline/part_{number % 2}/module_{number}.py", MESSAGE.format("EDITED"))
    old = live_digest(volume)
    for at in range(1, 50):
        shutil.rmtree(tmp_path / "now", ignore_errors=True)
        now = shutil.copytree(volume, tmp_path / "now" / "volume", symlinks=True)
        command = [sys.executable, "-c", DYING_LAPTOP, str(at), "sync", "--source", str(few), "--volume", str(now)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert live_digest(now) in (old, digest(few))
        wait_for(partial(succeeds, few, now), "the lock outlived the laptop's process")
        assert live_digest(now) == digest(few)
        assert left_behind(now) == []
    assert at == 6 + FEW + 1, "the process was not killed at every message"


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the laptop's", "the one beside the volume"])
def test_a_process_is_killed_at_any_time(source, volume, victim):
    """200 files, all changed each time; the moments are spread over what a sync takes."""
    began = time.monotonic()
    synced(source, volume)
    lasts = time.monotonic() - began
    for part in range(12):
        old = live_digest(volume)
        for file in source.rglob("module_*.py"):
            file.write_text(f"PART = {part}\n" * 50)
        command = [sys.executable, str(REPOSITORY / "pipeline.py"), "sync", "--source", source, "--volume", volume]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(lasts * (0.3 + 0.7 * part / 12))
        for target in [process.pid] if victim == "the laptop's" else children(process.pid):
            os.kill(target, signal.SIGKILL)
        process.wait()
        assert live_digest(volume) in (old, digest(source))
        wait_for(partial(succeeds, source, volume), "the lock outlived the process")
        assert live_digest(volume) == digest(source)
        assert left_behind(volume) == []


@pytest.mark.slow
def test_the_process_beside_the_volume_ends_when_nothing_is_heard_of_the_laptop(source, volume, tmp_path, monkeypatch):
    """As when the network is cut: the pipe is open, and nobody is there."""
    for name, value in hooked(tmp_path, IMPATIENT).items():
        monkeypatch.setenv(name, value)
    door = FolderDoor(volume)
    with door.open() as channel:
        channel.say({"volume": door.volume, "sync": True, "who": "ann@laptop"})
        assert channel.hear()["files"] == {}
        with pytest.raises(LostError, match=r"ended before it had answered \(exit 1\)"):
            channel.hear()
        assert succeeds(source, volume)


@pytest.mark.slow
def test_the_laptop_gives_up_when_nothing_is_heard_of_the_process_beside_the_volume(few, volume, tmp_path, monkeypatch):
    monkeypatch.setattr(doors, "SILENCE_SECONDS", 1.0)
    for name, value in hooked(tmp_path, STOPPED).items():
        monkeypatch.setenv(name, value)
    (few / "large.bin").write_bytes(bytes(1_000_000))  # more than a pipe holds: sending, too, must end
    with pytest.raises(LostError, match=r"nothing was heard of it for 1 s"):
        laptop_sync.sync(few, FolderDoor(volume), force=False)


@pytest.mark.slow
def test_a_process_beside_the_volume_that_takes_long_gives_signs_of_life(few, volume, tmp_path, monkeypatch):
    monkeypatch.setattr(doors, "SILENCE_SECONDS", 1.5)
    for name, value in hooked(tmp_path, LONG_BEFORE_SWITCH).items():
        monkeypatch.setenv(name, value)
    laptop_sync.sync(few, FolderDoor(volume), force=False)
    assert live_digest(volume) == digest(few)


# Snapshots beside syncs


@pytest.mark.slow
def test_every_snapshot_taken_while_syncs_go_on_is_one_of_the_synced_states(source, volume, tmp_path):
    states = {}
    for name in ("a", "b"):
        folder = shutil.copytree(source, tmp_path / name)
        for file in folder.rglob("module_*.py"):
            file.write_text(f"STATE = '{name}'\n")
        states[digest(folder)] = folder
    laptop_sync.sync(tmp_path / "a", FolderDoor(volume), force=False)
    stopped = threading.Event()

    def keep_syncing() -> int:
        done = 0
        while not stopped.is_set():
            for folder in states.values():
                laptop_sync.sync(folder, FolderDoor(volume), force=False)
                done += 1
        return done

    with ThreadPoolExecutor() as pool:
        syncing = pool.submit(keep_syncing)
        try:
            seen = [freeze(volume, "", "desk", steps=()).code_digest for _ in range(25)]
        finally:
            stopped.set()
    assert syncing.result() > 5, "there was hardly a sync beside the snapshots"
    assert set(seen) == set(states)


@pytest.mark.slow
def test_a_sync_does_not_change_what_a_run_has_frozen(volume):
    done = run_pipeline("sync", "--volume", str(volume))
    assert done.returncode == 0, done.stderr
    releases = freeze(volume, "mask_rcnn_r18_small", "desk").releases
    before = {step: digest(release) for step, release in releases.items()}
    changed = copy_live(volume.parent / "changed")
    append(changed, errors, "CHANGED = True")
    synced(changed, volume)
    assert {step: digest(release) for step, release in releases.items()} == before
    after = freeze(volume, "mask_rcnn_r18_small", "desk").releases
    assert all(after[step] != release for step, release in releases.items())


# --watch


class Watching:
    """A running `sync --watch`, and the lines that it says."""

    def __init__(self, source: Path, volume: Path, environment: Mapping[str, str]) -> None:
        command = [
            sys.executable,
            str(REPOSITORY / "pipeline.py"),
            "sync",
            "--watch",
            "--source",
            source,
            "--volume",
            volume,
        ]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | dict(environment),
            # What runs in the background of a shell ignores Ctrl-C, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self) -> str:
        return self._lines.get(timeout=60)

    def nothing_said(self) -> bool:
        return self._lines.empty()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)


@pytest.fixture
def watch(source, volume):
    watching: list[Watching] = []

    def start(**environment: str) -> Watching:
        watching.append(Watching(source, volume, environment))
        return watching[-1]

    yield start
    for each in watching:
        each.process.kill()
        each.process.wait()


def test_watch_syncs_every_change_and_waits_after_an_error(source, volume, watch):
    watching = watch()
    assert "200 of 200 files" in watching.line()
    edit(source)
    assert "1 of 200 files" in watching.line()
    assert live_digest(volume) == digest(source)

    edit(source, text="def broken(:\n")
    before = live_digest(volume)
    assert re.search(r"module_0\.py, line 1: invalid syntax", watching.line())
    assert "waiting for the next change" in watching.line()
    assert live_digest(volume) == before
    edit(source, text="MENDED = True\n")
    assert "1 of 200 files" in watching.line()

    edit(volume / "code", "sightline/part_1/module_1.py", "MINE = True\n")
    edit(source)
    assert "Edited on the volume" in watching.line()
    assert "waiting for the next change" in watching.line()
    edit(source, "sightline/part_1/module_1.py", "MINE = True\n")
    assert "1 of 200 files" in watching.line()
    assert "(edited on the volume) is kept as copies/" in watching.line()

    (source / "sightline" / "part_2" / "module_2.py").unlink()
    assert "0 of 199 files" in watching.line()
    assert live_digest(volume) == digest(source)
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(20) == 130
    assert "Traceback" not in watching.line()


@pytest.mark.slow
def test_watch_tries_again_when_the_connection_is_lost(source, volume, watch, tmp_path):
    watching = watch(**hooked(tmp_path, KILL_ONCE, OUTPUT=tmp_path / "was killed"))
    assert "The process beside the volume, or the connection to it, ended" in watching.line()
    assert "trying again in 1 s" in watching.line()
    assert "200 of 200 files" in watching.line()
    assert live_digest(volume) == digest(source)


@pytest.mark.slow
def test_watch_passes_over_what_editors_leave_and_takes_what_is_saved_while_it_syncs(source, volume, watch, tmp_path):
    paused = tmp_path / "paused"
    watching = watch(**hooked(tmp_path, WAIT_BEFORE_SWITCH, OUTPUT=paused))
    wait_for(paused.exists)
    for junk in (".git/index", "sightline/__pycache__/x.pyc", "sightline/.x.py.swp", "sightline/x.py~"):
        edit(source, junk, "junk(")
    edit(source, text="WHILE_IT_SYNCED = True\n")
    paused.unlink()
    assert "200 of 200 files" in watching.line()
    wait_for(paused.exists)
    paused.unlink()
    assert "1 of 200 files" in watching.line()
    edit(source, ".git/index", "junk again")
    time.sleep(1.5)
    assert watching.nothing_said()


def test_watch_without_its_library_says_how_to_get_it(source, volume, tmp_path):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text("import sys\nsys.modules['watchfiles'] = None\n")
    done = sync(source, volume, "--watch", environment={"PYTHONPATH": str(tmp_path / "hook")})
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "needs watchfiles" in done.stderr and "make setup" in done.stderr


def test_watch_ends_when_trying_again_cannot_help(tmp_path, source):
    done = sync(source, tmp_path / "nowhere", "--watch")
    assert done.returncode == 1
    assert "there is no folder" in done.stderr


def succeeds(source: Path, volume: Path) -> bool:
    try:
        laptop_sync.sync(source, FolderDoor(volume), force=False)
    except HeldError:
        return False
    return True


def wait_for(condition: Callable[[], bool], what: str = "that did not happen", seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def children(process: int) -> list[int]:
    """The processes that a process has started and that still run."""
    try:
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []
