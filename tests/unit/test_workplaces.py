"""Private folders: kept while their process lives, removed when it died."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from sightline.processes import folders as workplaces
from sightline.processes.folders import HELD, only_one, private_folder, remove_abandoned

LIBRARY = Path(workplaces.__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sightline.processes.folders import only_one, private_folder
with private_folder(Path(sys.argv[2]), "theirs-") as folder, only_one(Path(sys.argv[2], "one"), 1) as alone:
    (folder / "file").touch()
    print(folder, alone, flush=True)
    sys.stdin.read()
"""


def hold(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process that has a private folder, and is the one in `only_one`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(LIBRARY), str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    folder, alone = process.stdout.readline().rsplit(maxsplit=1)
    assert alone == "True"
    return process, Path(folder)


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    process.send_signal(how)
    process.communicate()


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.name != "one")


def test_a_private_folder_is_there_while_it_is_used_and_then_gone(tmp_path):
    with private_folder(tmp_path / "new" / "work", "mine-") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").touch()
        assert remove_abandoned(folder.parent) == 0
        assert names(folder.parent) == [folder.name, folder.name + HELD]
    assert names(tmp_path / "new" / "work") == []


def test_a_folder_that_was_moved_to_its_place_stays_there(tmp_path):
    with private_folder(tmp_path, ".pulling-") as folder:
        (folder / "file").touch()
        folder.rename(tmp_path / "done")
    assert names(tmp_path) == ["done"]
    assert names(tmp_path / "done") == ["file"]


def test_a_living_processs_folder_is_kept_and_a_killed_ones_removed(tmp_path):
    process, theirs = hold(tmp_path)
    with private_folder(tmp_path, "mine-"):
        assert (theirs / "file").exists()
    end(process, signal.SIGKILL)
    assert theirs.exists()
    with private_folder(tmp_path, "mine-") as mine:
        assert names(tmp_path) == [mine.name, mine.name + HELD]
    assert names(tmp_path) == []


def test_a_child_process_does_not_keep_a_dead_ones_folder(tmp_path):
    with private_folder(tmp_path, "mine-") as folder:
        child = os.fork()
        if child == 0:
            os._exit(remove_abandoned(tmp_path))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert folder.exists()


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "train-0123").mkdir()
    (tmp_path / "run.lock").touch()
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["run.lock", "train-0123"]


def test_only_one_process_and_thread_at_a_time(tmp_path):
    process, _ = hold(tmp_path)
    with only_one(tmp_path / "one", 0.1) as alone:
        assert not alone
    end(process, signal.SIGKILL)
    found: list[bool] = []

    def look() -> None:
        with only_one(tmp_path / "one", 0.1) as also:
            found.append(also)

    with only_one(tmp_path / "one", 5) as alone:
        assert alone
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert found == [False]
    look()
    assert found == [False, True]
