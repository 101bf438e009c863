"""What happens to a training beside training: told to SQL, kept in the work folder, shown in the report."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from sightline.services.runs.running_step import RunningStep

log = logging.getLogger(__name__)

FILE = "events.jsonl"


class Events:
    """The events of one work folder, in all the runs that trained there.

    `events.jsonl` holds `{"at": …, "run": …, "kind": …, "iter": 12, "message": …}`.
    """

    def __init__(self, folder: Path, step: RunningStep) -> None:
        self.path = folder / FILE
        self.step = step  # where SQL hears of it
        self.restarted = ""  # how training goes on after it ran out of memory just now

    def going_on(self, iteration: int, resumed: bool) -> None:
        """Training goes on at a checkpoint of its own, which is `resumed`, or after it ran out of memory from where it began."""
        if self.restarted:
            self.tell("restarted", iteration, self.restarted)
        elif resumed:
            self.tell("resumed", iteration, f"goes on at its checkpoint, {self._after_what()}")

    def _after_what(self) -> str:
        """Why a checkpoint was there to go on from."""
        before = self.step.before
        if before is None:
            return "which another run of the same inputs left"
        attempt = f"attempt {before.attempt + 1}"  # people count from one, as `runs` does
        if before.state in ("running", "lost"):
            return f"after {attempt} was lost (last heartbeat {before.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC)"
        ended = {"done": "was done", "stopped": "was stopped"}.get(before.state, "failed")
        return f"after {attempt} {ended}"

    def tell(self, kind: str, iteration: int, message: str, at: datetime | None = None) -> None:
        """Something happened after an iteration."""
        moment = at or datetime.now(UTC)
        log.info("%s at iteration %d: %s", kind, iteration, message)
        line = {"at": moment.isoformat(), "run": self.step.run, "kind": kind, "iter": iteration, "message": message}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.step.write_event(kind, message, iteration, moment)
