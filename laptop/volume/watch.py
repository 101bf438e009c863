"""Keep a volume's live copy equal to a folder while somebody edits that."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from laptop.volume.doors import Door, HeldError, LostError
from laptop.volume.local_code import ChangedWhileSentError
from laptop.volume.sync import EditedError, sync
from sightline.errors import SightlineError
from sightline.services.runs.freeze import BrokenCodeError
from sightline.services.runs.live_files import JUNK_ENDINGS, JUNK_NAMES

SETTLED_MILLISECONDS = 500  # an editor saves several files at once
LONGEST_PAUSE_SECONDS = 30.0


def watch(source: Path, door: Door, force: bool, say: Callable[[str], None]) -> NoReturn:
    """Sync now and after every change, until the process is stopped.

    A syntax error, or an edit on the volume, is told and waits for the next change here. A lost connection and another
    sync at work are tried again, after ever longer pauses.

    Raises:
        SightlineError: what trying again does not mend: no access, no such folder, no watchfiles.
    """
    try:
        import watchfiles
    except ModuleNotFoundError:
        raise SightlineError(
            "sync --watch needs watchfiles, which is not installed here; `make setup` installs it."
        ) from None

    source = source.resolve()
    changes = watchfiles.watch(
        source, watch_filter=partial(_is_code, source), rust_timeout=SETTLED_MILLISECONDS, yield_on_timeout=True
    )
    pause = 0.0
    while True:
        if source.is_dir():  # else sync says so
            next(changes)  # from here on they are collected, also while a sync is at work
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
        while not next(changes):
            pass


def _is_code(source: Path, _: Any, changed: str) -> bool:
    path = Path(changed).relative_to(source)
    hidden = any(part.startswith(".") or part in JUNK_NAMES for part in path.parts)
    return not hidden and not changed.endswith(JUNK_ENDINGS)
