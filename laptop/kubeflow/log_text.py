"""What a step's container printed: the step's own lines, without what Kubeflow's launcher and Argo say around them, and the reason at the end."""

import re
from collections.abc import Iterable, Iterator
from itertools import dropwhile, takewhile

ARGO = re.compile(r"time=\S+ level=\w+ .*\bargo=true\b")
LAUNCHER = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w./-]+\.go:\d+\] (.*)")
EXECUTOR = re.compile(r"\[KFP Executor [^]]*\]: ")
EXECUTORS_TALK = re.compile(
    EXECUTOR.pattern + r"(Looking for component|Loading KFP component|Got executor_input|Wrote)"
)
INPUT = "Got executor_input:"
EXIT = re.compile(r"exit status \d+$")
LAST = re.compile(r"Error: exit status \d+")
OUR_PREFIX = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [\w-]+ ")
RULE = re.compile(r"\W{5,}")  # a frame's upper or lower edge
EDGE = re.compile(r"^[│┃|║]\s?|\s?[│┃|║]$")
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BEGINS = re.compile(r"^\d\d:\d\d:\d\d\.\d+ - INFO - Executing task '([^']+)'")  # kfp's local runner says so
TRACEBACK = "Traceback (most recent call last):"
LONGEST = 600  # characters of a sentence


def own_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines that the step printed, as they come; the launcher's only where it tells of a failure of its own."""
    in_input = False
    held = ""  # "Error: exit status 1" is Argo's where it is the very last line
    for line in lines:
        text = line.rstrip("\r\n")
        if in_input:
            in_input = text != "}"
            continue
        if held:
            yield held
            held = ""
        if INPUT in text and EXECUTORS_TALK.match(text):
            in_input = True
        elif LAST.fullmatch(text):
            held = line
        elif not _is_around(text):
            yield line


def parts_of(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The lines of a run on a laptop, which has one log, each after the name of its step; none before the first."""
    step = ""
    for line in lines:
        if began := BEGINS.search(STYLE.sub("", line)):
            step = began[1]
        yield step, line


def unstyled(line: str) -> str:
    """A line of such a log without colours, and what a step printed as far to the left as the step did."""
    return STYLE.sub("", line).removeprefix(" " * 4)


def _is_around(text: str) -> bool:
    if ARGO.match(text) or EXECUTORS_TALK.match(text):
        return True
    said = LAUNCHER.match(text)
    return said is not None and (said[1] == "I" or bool(EXIT.search(said[2])))


def reason_in(log: str) -> str:
    """Why a step that failed did: the end of what it printed, in one sentence. Empty where it printed nothing."""
    lines = _filled(own_lines(log.splitlines()))
    if not lines:
        return ""
    if said := LAUNCHER.match(lines[-1]):
        return sentence(said[2])
    if RULE.fullmatch(lines[-1]):
        return sentence(_framed(lines))
    if error := _raised(lines):
        return sentence(error)
    return sentence(EXECUTOR.sub("", OUR_PREFIX.sub("", lines[-1])))


def ends_with_launcher(log: str) -> bool:
    """Whether a log ends with a failure of Kubeflow's launcher, around a step that did not fail itself."""
    lines = _filled(own_lines(log.splitlines()))
    return bool(lines) and bool(LAUNCHER.match(lines[-1]))


def ends_framed(lines: Iterable[str], reason: str) -> bool:
    """Whether what a step printed ends with this reason in a frame, which the eye finds without a second one."""
    last = _filled(lines)
    return bool(last) and bool(RULE.fullmatch(last[-1])) and sentence(reason) in sentence(_framed(last))


def _filled(lines: Iterable[str]) -> list[str]:
    return [line for each in lines if (line := each.rstrip())]


def _framed(lines: list[str]) -> str:
    inside = list(takewhile(lambda line: not RULE.fullmatch(line), reversed(lines[:-1])))
    text = " ".join(EDGE.sub("", line).strip() for line in reversed(inside))
    return re.sub(r"^(reason|error): ", "", text)


def _raised(lines: list[str]) -> str:
    """The error of a traceback with which the log ends."""
    if TRACEBACK not in lines:
        return ""
    after = lines[len(lines) - lines[::-1].index(TRACEBACK) :]
    raised = list(dropwhile(lambda line: line.startswith(" "), after))
    goes_on = any(OUR_PREFIX.match(line) or EXECUTOR.match(line) for line in raised)
    return "" if goes_on else "\n".join(raised)


def driver_reason_in(log: str) -> str:
    """Why a driver, which prepares a step's pod, failed: its last error without the call that it was in."""
    last = {found[1]: found[2] for line in log.splitlines() if (found := LAUNCHER.match(line))}
    said = last.get("F") or last.get("E", "")
    return sentence(re.sub(r"^KFP driver: driver\.\w+\(.*\) failed: ", "", said))


def sentence(text: str) -> str:
    """A reason in one line, without the name of our general error."""
    if TRACEBACK in text:
        text = _raised(_filled(text.splitlines())) or text
    text = " ".join(text.split())
    text = re.sub(r"^(?:\w+\.)+(\w+: )", r"\1", text).removeprefix("SightlineError: ")
    return cut(text, LONGEST)


def cut(text: str, longest: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
