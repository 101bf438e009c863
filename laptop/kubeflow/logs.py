"""`pipeline.py logs`: what the steps of a run printed, and why it failed."""

import argparse
import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from components.parameters import STEPS
from laptop.kubeflow.access import access_of
from laptop.kubeflow.answers import Run
from laptop.kubeflow.connect import Server, ServerError, try_connect
from laptop.kubeflow.find import find_run_id, get_run, short_id
from laptop.kubeflow.log_text import ends_framed, own_lines, parts_of, unstyled
from laptop.kubeflow.pod_state import Pod, age_of, waits_for
from laptop.kubeflow.pods import Glance, Pods, open_pods
from laptop.kubeflow.sql import Metadata, open_metadata, rows_of_steps, still_there
from laptop.kubeflow.steps import Evidence, StepShown, log_hint, others, shown_steps, waiting_of, why_lost
from laptop.kubeflow.tasks import ENDED, NOT_BEGUN, PENDING, REUSED, RUNNING, steps_of
from laptop.tables import print_framed
from sightline.errors import SightlineError, did_you_mean, nearest

SECONDS_BETWEEN_LOOKS = 2.0
LONGEST_FRAME = 60  # lines


def logs(options: argparse.Namespace) -> int:
    """Print the logs of a run's pods, or say where they are when the pods are gone. Returns the exit status."""
    server, problem, namespace = try_connect(access_of(options))
    metadata = open_metadata(options.workspace)
    run_id = find_run_id(options.which, server, metadata, problem)
    local = options.workspace / "logs" / f"{run_id}.log"
    if local.is_file():
        return _print_local(local, options.step, options.raw)
    asked = _Asked(run_id, options.step, server, metadata, Glance(namespace))
    _require_step(asked)
    try:
        printing = _Printing(open_pods(namespace), asked, options.follow, options.raw)
        printed = printing.all()
    except SightlineError as error:
        return _elsewhere(str(error), asked)
    if not printed:
        return _without_pods(asked)
    _print_reasons(asked, sys.stderr if options.raw else sys.stdout, printing.end)
    return 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """The run and the step whose log is wanted, and who knows of them."""

    run_id: str
    step: str | None
    server: Server | None
    metadata: Metadata
    glance: Glance

    def run(self) -> Run | None:
        """What Kubeflow says of the run now; None where it says nothing."""
        with contextlib.suppress(ServerError):
            return get_run(self.server, self.run_id) if self.server else None
        return None

    def steps(self, run: Run | None) -> list[StepShown]:
        """The wanted steps by Kubeflow and SQL."""
        # "Look into its log" says nothing to somebody who has just done so.
        return [
            replace(step, reason=step.reason.removesuffix(log_hint(self.run_id, step.name)))
            for step in shown_steps(self._known(run))
            if self.step in (None, step.name)
        ]

    def lost(self, run: Run) -> str:
        """Why a run is lost; empty for others."""
        return why_lost(self._known(run), lambda: others(self.server))

    def _known(self, run: Run | None) -> Evidence:
        return Evidence(self.run_id, run, still_there(self.metadata), self.glance)


def _require_step(asked: _Asked) -> None:
    """Look whether the run's pipeline has the step; of another's pipeline that goes on nobody knows what is to come."""
    if asked.step is None or asked.step in STEPS:
        return
    run = asked.run()
    known = {*STEPS, *rows_of_steps(still_there(asked.metadata), asked.run_id)}
    known |= {step.name for step in steps_of(run)} if run else set()
    known |= asked.glance.ask(lambda pods: {pod.role.step for pod in pods.of_run(asked.run_id)} - {""}) or set()
    may_come = run is not None and run.state not in ENDED and not did_you_mean(asked.step, known)
    if asked.step not in known and not may_come:
        raise SightlineError(
            f"There is no step {asked.step} in run {short_id(asked.run_id)}.{nearest(asked.step, known)}"
        )


def _print_local(log: Path, step: str | None, raw: bool) -> int:
    """Print the one log that a run on this laptop has, or a step's part of it. Returns the exit status."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    parts = list(parts_of(lines))
    began = list(dict.fromkeys(part for part, _ in parts if part))
    if step and step not in began:
        what = "never began" if step in STEPS else "is not a step"
        hint = f" Its steps: {', '.join(began)}." if step in STEPS and began else nearest(step, {*STEPS, *began})
        raise SightlineError(f"{step} {what} in the run {log.stem} of this laptop.{hint} Its whole log: {log}")
    print(f"== {step or 'the whole run'} on this laptop, {log}", file=sys.stderr)
    chosen = [line for part, line in parts if step in (None, part)]
    sys.stdout.writelines(chosen if raw else own_lines(map(unstyled, chosen)))
    return 0


@dataclass(slots=True)
class _Printing:
    """The pods one after the other; with `follow` also those that are still to come."""

    pods: Pods
    asked: _Asked
    follow: bool
    raw: bool
    end: deque[str] = field(default_factory=lambda: deque(maxlen=LONGEST_FRAME))  # the newest lines that were printed
    _seen: set[str] = field(default_factory=set)
    _told: str = ""
    _there: bool = False

    def all(self) -> bool:
        """Print; whether there was a pod."""
        while True:
            run = self.asked.run() if self.follow else None  # before the pods: none is made after its step has ended
            for pod in self._new():
                self._seen.add(pod.name)
                print(f"== {pod.role.step}: pod {pod.name}, {pod.phase}", file=sys.stderr)
                lines = _lines(self.pods, pod, self.follow)
                for line in lines if self.raw else own_lines(lines):
                    sys.stdout.write(line)
                    sys.stdout.flush()
                    self.end.append(line)
            if not self.follow or self._is_over(run):
                return bool(self._seen)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _new(self) -> list[Pod]:
        """The pods that ran our steps, in the order they were made; a step that was tried again has several."""
        everything = self.pods.of_run(self.asked.run_id)
        self._there = bool(everything)
        found = [pod for pod in everything if pod.role.step and not pod.role.driver]
        chosen = [pod for pod in found if self.asked.step in (None, pod.role.step)]
        if found and not chosen and not self.follow:
            names = ", ".join(dict.fromkeys(pod.role.step for pod in found))
            print(f"no pod of {self.asked.step} in this run; there are pods of {names}", file=sys.stderr)
        return sorted((pod for pod in chosen if pod.name not in self._seen), key=age_of)

    def _is_over(self, run: Run | None) -> bool:
        """Whether no further pod is to come; if one is, say what is waited for."""
        if run is None or run.state in ENDED:
            return True
        if not self._there and (lost := self.asked.lost(run)):
            if self._seen:  # else there is more to say
                print(f"   the run is lost: {lost}", file=sys.stderr)
            return True
        steps = {step.name: step for step in steps_of(run)}
        wanted = steps.get(self.asked.step or "")
        if wanted and wanted.state not in (NOT_BEGUN, PENDING, RUNNING):
            return True
        if wanted and wanted.state == RUNNING and self._seen:
            return False  # its next attempt is told when it is there
        at_work = [f"{step.name} is {step.state}" for step in steps.values() if step.state in (PENDING, RUNNING)]
        waits = self.asked.glance.ask(lambda pods: waiting_of(pods, run.run_id)) or {}
        at_work = [f"{name} cannot start: {why}" for name, why in waits.items()] or at_work
        told = f"waiting for {self.asked.step or 'the next step'}: {', '.join(at_work) or 'Kubeflow prepares it'}"
        if told != self._told:
            self._told = told
            print(f"   {told}", file=sys.stderr)
        return False


def _lines(pods: Pods, pod: Pod, follow: bool) -> Iterator[str]:
    """The log so far, or to the end of the pod."""
    name = pod.name
    told = ""
    while pod.phase == "Pending":
        waits = waits_for(pod) or "its containers are being made"
        if waits != told:
            told = waits
            print(f"   waiting: {waits}", file=sys.stderr)
        if not follow:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)
        pod = pods.read(name)
    yield from pods.lines(name, follow)


def _print_reasons(asked: _Asked, out: TextIO, before: Sequence[str] = ()) -> None:
    """Print why steps failed, except for a reason with which what was printed `before` ends, in a frame of the step's own."""
    for step in asked.steps(asked.run()):
        if step.failed and not ends_framed(before, step.reason):
            print_framed(f"reason: {step.name} failed: {step.reason}", out)


def _without_pods(asked: _Asked) -> int:
    """Say why there is no log: the step has not begun, needed no pod, or its pod is gone."""
    run = asked.run()
    short = short_id(asked.run_id)
    states = {step.name: step.state for step in steps_of(run)} if run else {}
    state = states.get(asked.step or "", NOT_BEGUN)
    if asked.step and state == REUSED:
        print(f"{asked.step} was reused in run {short}: it came from the cache, without a pod of its own")
        return 0
    if run and (lost := asked.lost(run)):
        return _elsewhere(f"The run {short} is lost: {lost}.", asked, run)
    if run and run.state not in ENDED and (state in (NOT_BEGUN, PENDING) or asked.step is None):
        what = f"{asked.step or 'a step'} of run {short} has not begun; wait for it with --follow"
        print(f"error: {what}", file=sys.stderr)
        for step in asked.steps(run):
            if step.waits:
                print(f"{step.name} cannot start: {step.waits}", file=sys.stderr)
        return 1
    if asked.step and state == NOT_BEGUN and asked.step in states:
        print(f"error: {asked.step} never began in run {short}, which is over", file=sys.stderr)
        _print_reasons(replace(asked, step=None), sys.stdout)
        return 1
    gone = f"The pods of run {short} are gone: Kubernetes removes them some time after the end."
    return _elsewhere(gone, asked, run)


def _elsewhere(why: str, asked: _Asked, run: Run | None = None) -> int:
    """Say where the log is now, and how the steps ended."""
    run = run or asked.run()
    steps = asked.steps(run)
    by_driver = run and any(step.by_driver for step in steps_of(run) if step.name == asked.step)
    if by_driver:
        why = f"{asked.step} has no log: what prepares its pod failed before that could be made."
    print(f"error: {why}", file=sys.stderr)
    where = asked.server.link(asked.run_id) if asked.server else "the run's page in the UI"
    if not by_driver:
        print(f"Kubeflow keeps each log as the step's artifact executor-logs: {where}", file=sys.stderr)
    if asked.metadata.database is None:
        print(f"SQL could tell how the steps ended, but: {asked.metadata.missing}", file=sys.stderr)
    for step in steps:
        if step.failed:
            print_framed(f"reason: {step.name} failed: {step.reason}", sys.stdout)
        else:
            print(f"{step.name}: {step.kubeflow or step.sql}")
    return 1
