"""Another run's training that one goes on from: what must be equal, what differs, and what of it is carried over."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmengine.config import Config
from mmengine.runner import Runner

from sightline.errors import SightlineError
from sightline.references import CheckpointReference
from sightline.services.runs.trainings import BEST, CHECKPOINT, HISTORY, MANIFEST, read_json, too_few, write_json
from sightline.steps.train.carried import fitted
from sightline.steps.train.checkpoints import load_plain
from sightline.steps.train.history import read_lines

log = logging.getLogger(__name__)

FILE: Final = "went_on.json"
MOST_LOGGED: Final = 20  # differences that the log names; the report has all
LONGEST: Final = 200  # characters of a value that is shown
VALIDATES: Final = ("model.", "test_pipeline")  # keys of the config: scores compare where these are equal
WITHOUT: Final = "Or begin a new training with its weights: --pretrained"
FACTS: Final = {
    "category": "category",
    "dataset_version": "dataset version",
    "dataset_digest": "dataset's digest",
    "config": "config",
    "select_by": "metric that selects",
    "code": "code",
}


@dataclass(frozen=True, slots=True)
class Longer:
    """The training that goes on, at its start."""

    runner: Runner
    batches: int  # of an epoch
    epochs: int  # of the whole training
    iterations: int
    folder: Path  # its work folder


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a training goes on from."""

    reference: CheckpointReference
    take: Callable[[], Path]  # finds the folder; a training with checkpoints of its own does without it
    now: Mapping[str, Any]  # what is trained here, as `facts_of` says it

    def begin(self, here: Longer) -> dict[str, Any]:
        """The state to go on with, as if a checkpoint of this training's own held it; history and best weights come along.

        The other training's folder is read only. Killed in here, it is the same once more.

        Raises:
            SightlineError: classes, tensors or optimizer are others, or there is nothing left to train.
        """
        folder = self.take()
        before = read_json(folder / MANIFEST)
        state = load_plain(folder / CHECKPOINT)
        self._require_equal(before, here, state)
        differs = list(differences(before, self.now))
        keeps_place = self._same_batches(before, state, here.batches)
        batch = state["batch"] if keeps_place else 0
        self._require_more(here, state["epoch"], batch)
        compares = self._compares(before, differs)
        carried = fitted(here.runner, state, here.batches, batch)
        carried |= _progress(state, here, batch, compares)
        self._bring(folder, here, state, compares)
        facts = self._told(before, state, carried, differs, compares)
        for line in _summary(facts):
            log.info("%s", line)
        write_json(here.folder / FILE, facts)
        return carried

    def _require_equal(self, before: Mapping[str, Any], here: Longer, state: Mapping[str, Any]) -> None:
        run, theirs, ours = self.reference.run, before["classes"], self.now["classes"]
        if theirs != ours:
            raise SightlineError(
                f"The run {run} was trained on the classes {', '.join(theirs)}, in this order, and the dataset has {', '.join(ours)}: a "
                f"training can only go on with the same. {WITHOUT} keeps what is common."
            )
        tensors = {name: tuple(tensor.shape) for name, tensor in here.runner.model.state_dict().items()}
        saved = {name: tuple(tensor.shape) for name, tensor in state["state_dict"].items()}
        if other := [name for name in {**tensors, **saved} if tensors.get(name) != saved.get(name)]:
            shapes = f"{saved.get(other[0], 'not')} there, {tensors.get(other[0], 'not')} here"
            raise SightlineError(
                f"The model of the run {run} has other tensors: {other[0]} ({shapes}); {len(other)} in all. Use its config "
                f"({before['config']}) and the values that were set of it. {WITHOUT} takes what fits."
            )
        optimizers = [_optimizer(facts["values"]) for facts in (before, self.now)]
        groups = [
            [each["params"] for each in saved["param_groups"]]
            for saved in (state["optimizer"], here.runner.optim_wrapper.state_dict())
        ]
        if optimizers[0] != optimizers[1] or groups[0] != groups[1]:
            what = " and ".join(dict.fromkeys(optimizers))
            raise SightlineError(
                f"The optimizer differs from that of the run {run} ({what}, {len(groups[0])} and {len(groups[1])} groups of parameters), so "
                f"that its state cannot be carried over. Leave type and paramwise_cfg as they were. {WITHOUT} has a new optimizer."
            )

    def _same_batches(self, before: Mapping[str, Any], state: Mapping[str, Any], batches: int) -> bool:
        """Whether an epoch that was cut off can go on where it was."""
        now = self.now
        equal = [before[name] == now[name] for name in ("dataset_digest", "category")]
        equal += [before["values"].get(name) == now["values"].get(name) for name in ("seed", "train_batch_size")]
        return all(equal) and state["batches"] == batches

    def _require_more(self, here: Longer, epoch: int, batch: int) -> None:
        if epoch * here.batches + batch >= here.iterations:
            raise too_few(self.reference.run, epoch, here.epochs)

    def _compares(self, before: Mapping[str, Any], differs: Sequence[Sequence[str]]) -> bool:
        """Whether earlier scores compare with those to come."""
        equal = all(before[name] == self.now[name] for name in ("category", "dataset_digest", "select_by"))
        return equal and not any(what.startswith(VALIDATES) for what, _, _ in differs)

    def _bring(self, folder: Path, here: Longer, state: Mapping[str, Any], compares: bool) -> None:
        """Copy the history, with iterations as if every epoch had had as many as now, and the best weights."""
        factor = here.batches / state["batches"]
        lines = [{**line, "iter": max(1, round(line["iter"] * factor))} for line in read_lines(folder / HISTORY)]
        (here.folder / HISTORY).write_text("".join(json.dumps(line) + "\n" for line in lines))
        (here.folder / BEST).unlink(missing_ok=True)
        if compares and (folder / BEST).is_file():
            arriving = here.folder / f"{BEST}.new"
            shutil.copyfile(folder / BEST, arriving)
            arriving.replace(here.folder / BEST)

    def _told(
        self,
        before: Mapping[str, Any],
        state: Mapping[str, Any],
        carried: Mapping[str, Any],
        differs: Sequence[Sequence[str]],
        compares: bool,
    ) -> dict[str, Any]:
        where = f"in epoch {state['epoch'] + 1}" if state["batch"] else f"after epoch {state['epoch']}"
        return {
            "sha256": self.reference.checkpoint,
            "origin": f"run {self.reference.run}, {where}",
            "bundle": self.reference.parent,
            "run": self.reference.run,
            "dataset_version": before["dataset_version"],
            "epoch": carried["epoch"],
            "iter": carried["iter"],
            "again": state["batch"] - carried["batch"],
            "best_carried": compares,
            "differs": [list(each) for each in differs],
        }


def facts_of(values: Config, **others: Any) -> dict[str, Any]:
    """What a work folder says of its training: what FACTS and `classes` name, and the config's values."""
    plain: dict[str, Any] = json.loads(json.dumps({**others, "values": values.to_dict()}, default=str))
    return plain


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What of two trainings differs, by name or dotted key of the config: what it was, what it is."""
    for name, words in FACTS.items():
        if before.get(name) != now.get(name):
            yield words, _shown(before.get(name)), _shown(now.get(name))
    earlier, later = dict(_leaves(before["values"])), dict(_leaves(now["values"]))
    for key in {**earlier, **later}:
        if earlier.get(key, _NOTHING) != later.get(key, _NOTHING):
            yield key, _shown(earlier.get(key, _NOTHING)), _shown(later.get(key, _NOTHING))


_NOTHING: Final = object()


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> value, of everything that holds nothing further."""
    if not node or not isinstance(node, dict | list):
        yield key, node
        return
    for part, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _leaves(value, f"{key}.{part}" if key else str(part))


def _shown(value: Any) -> str:
    text = "not there" if value is _NOTHING else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _optimizer(values: Mapping[str, Any]) -> str:
    return str(values["optim_wrapper"]["optimizer"]["type"]).rpartition(".")[2]


def _progress(state: Mapping[str, Any], here: Longer, batch: int, compares: bool) -> dict[str, Any]:
    """How far the training is, in its own iterations. Patience counts anew; where scores do not compare, the best does too."""
    epoch, validates = state["epoch"], here.runner.val_loop is not None
    value, best_epoch, _ = state["best"]
    anew = validates and not compares and epoch + batch > 0  # the weights that it goes on with are the first candidate
    return {
        "epoch": epoch,
        "iter": epoch * here.batches + batch,
        "batch": batch,
        "validation_due": anew or (validates and state["validation_due"]),
        "stopping": False,
        "best": [value, best_epoch, 0] if compares else [float("-inf"), 0, 0],
    }


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"goes on from {facts['origin']}, at iteration {facts['iter']}"
    if facts["again"]:
        yield "that epoch begins anew, as it has other batches now"
    if not facts["best_carried"]:
        yield "earlier scores do not compare with those to come: which epoch is best is decided anew"
    differs = facts["differs"]
    for what, before, now in differs[:MOST_LOGGED]:
        yield f"differs: {what}: {before} before, {now} now"
    if len(differs) > MOST_LOGGED:
        yield f"and {len(differs) - MOST_LOGGED} more differences, which the report names"
