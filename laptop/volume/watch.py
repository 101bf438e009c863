"""Keep a volume's live copy equal to a folder while somebody edits that."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from laptop.volume.doors import Door, HeldError, LostError
from laptop.volume.local_code import ChangedWhileSentError, times_of
from laptop.volume.sync import EditedError, sync
from sightline.services.runs.freeze import BrokenCodeError

SECONDS_BETWEEN_LOOKS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


def watch(source: Path, door: Door, force: bool, say: Callable[[str], None]) -> NoReturn:
    """Sync now and after every change, until the process is stopped.

    A syntax error, or an edit on the volume, is told and waits for the next change here. A lost connection and another
    sync at work are tried again, after ever longer pauses.

    Raises:
        SightlineError: what trying again does not mend: no access, no such folder.
    """
    pause = 0.0
    while True:
        times = _settled(source)
        try:
            say(sync(source, door, force))
        except (LostError, HeldError) as error:
            pause = min(2 * pause + 1, LONGEST_PAUSE_SECONDS)
            say(f"{error}\n  trying again in {pause:.0f} s")
            time.sleep(pause)
            continue
        except ChangedWhileSentError:
            continue
        except (BrokenCodeError, EditedError) as error:
            say(f"{error}\n  waiting for the next change")
        pause = 0.0
        while times_of(source) == times:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _settled(source: Path) -> object:
    """The files' times, once nothing has changed for a moment: an editor saves several at once."""
    times = times_of(source)
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        if (now := times_of(source)) == times:
            return times
        times = now
