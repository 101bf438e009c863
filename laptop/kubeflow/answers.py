"""What a server says, read tolerantly: a field that is missing, null or of another type is left empty, an unknown one passed over.

A recorded server is not every server: newer ones say more and other words, and launchers list rows of their own.
"""

import contextlib
import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, AliasGenerator, AliasPath, BaseModel, BeforeValidator, Field, WrapValidator
from pydantic.alias_generators import to_camel

NEVER = datetime(1970, 1, 2, tzinfo=UTC)  # the server says year 1 or 1970 of what has not happened


def _number(value: Any, handler: Any) -> int:
    with contextlib.suppress(ValueError):  # which pydantic's error is, too
        return int(handler(value))
    return 0


def _moment(value: Any, handler: Any) -> datetime | None:
    moment: datetime | None = None
    with contextlib.suppress(ValueError):
        moment = handler(value) if isinstance(value, str) else None
    if moment and not moment.tzinfo:
        moment = moment.replace(tzinfo=UTC)
    return moment if moment and moment > NEVER else None


def _mapping(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> Any:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


T = TypeVar("T")
Text = Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")]
Number = Annotated[int, WrapValidator(_number)]
Flag = Annotated[bool, BeforeValidator(lambda value: value is True)]
Moment = Annotated[datetime | None, WrapValidator(_moment)]
Values = Annotated[dict[str, Any], BeforeValidator(_mapping)]
Part = Annotated[T, BeforeValidator(_mapping)]
Parts = Annotated[list[T], BeforeValidator(_mappings)]


def at(path: str, default: Any = "") -> Any:
    """A field that stands deeper in the answer, like `error.message`."""
    spellings = itertools.product(*((name, to_camel(name)) for name in path.split(".")))
    return Field(default, validation_alias=AliasChoices(*(AliasPath(*each) for each in spellings)))


class Answer(BaseModel):
    """Part of what a server says; every field has a value when it said nothing. Servers write both run_id and runId."""

    model_config = {
        "frozen": True,
        "alias_generator": AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    }


class Page(Answer):
    next_page_token: Text = ""


class Change(Answer):
    """A state that something had."""

    state: Text = ""
    update_time: Moment = None


class Child(Answer):
    pod_name: Text = ""


class Node(Answer):
    """One of the many nodes of a run: a step, its driver, its executor, or a row of the launcher's, which has no name."""

    display_name: Text = ""
    state: Text = ""
    start_time: Moment = None
    end_time: Moment = None
    error: Text = at("error.message")
    state_history: Parts[Change] = []
    child_tasks: Parts[Child] = []


class Run(Answer):
    """A run, ours or another pipeline's."""

    run_id: Text = ""
    display_name: Text = ""
    state: Text = ""
    created_at: Moment = None
    recurring_run_id: Text = ""
    pipeline_id: Text = at("pipeline_version_reference.pipeline_id")
    own_name: Text = at("pipeline_spec.pipeline_info.name")  # of a run that came with its pipeline's text
    own_name_beside_platform: Text = at("pipeline_spec.pipeline_spec.pipeline_info.name")  # of a text in two parts
    description: Text = ""
    parameters: Values = at("runtime_config.parameters", {})
    error: Text = at("error.message")
    state_history: Parts[Change] = []
    nodes: Parts[Node] = at("run_details.task_details", [])

    @property
    def began(self) -> datetime:
        """When it was made; of a server that does not say, long ago."""
        return self.created_at or NEVER


class Schedule(Answer):
    """A recurring run."""

    recurring_run_id: Text = ""
    display_name: Text = ""
    description: Text = ""
    experiment_id: Text = ""
    status: Text = ""
    created_at: Moment = None
    max_concurrency: Number = 0
    no_catchup: Flag = False
    cron: Text = at("trigger.cron_schedule.cron")
    interval_seconds: Number = at("trigger.periodic_schedule.interval_second", 0)
    parameters: Values = at("runtime_config.parameters", {})


class Pipeline(Answer):
    """A pipeline, or a version of one."""

    pipeline_id: Text = ""
    pipeline_version_id: Text = ""
    name: Text = ""
    display_name: Text = ""
    description: Text = ""


class Experiment(Answer):
    experiment_id: Text = ""
    storage_state: Text = ""


A = TypeVar("A", bound=Answer)


def parse(text: Any) -> Mapping[str, Any] | None:
    """An answer's JSON; None where it is none, or no object."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        said = json.loads(text)
        return said if isinstance(said, Mapping) else None
    return None


def read(kind: type[A], said: Any) -> A:
    """An answer; empty where it is none."""
    return kind.model_validate(_mapping(said))


def entries(kind: type[A], said: Mapping[str, Any], name: str) -> list[A]:
    """The answers of a list within an answer."""
    found = said.get(name, said.get(to_camel(name)))
    return [read(kind, each) for each in found] if isinstance(found, list) else []
