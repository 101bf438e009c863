"""How the steps hang together: the whole pipeline, or any part of it whose missing inputs have become parameters."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from kfp import dsl

from components.cluster import set_up_pod
from components.evaluate.component import evaluate
from components.parameters import DATASET_VERSION, PARAMETERS, STEPS, parameters_of
from components.record.component import record
from components.snapshot.component import snapshot
from components.test.component import test
from components.train.component import train

NAME, TITLE = "sightline", "Sightline"
DESCRIPTION = "From labelme annotations to an evaluated, tested, versioned model."


def make_pipeline(steps: Collection[str]) -> Any:
    """The pipeline of all steps, or of some; what an omitted step would have given is a parameter of it.

    Args:
        steps: some of STEPS; snapshot is always in.
    """
    chosen = tuple(step for step in STEPS if step in {"snapshot", *steps})
    signature = inspect.Signature(
        [
            inspect.Parameter(
                each.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=each.kind, default=each.default
            )
            for each in parameters_of(chosen)
        ]
    )

    def wired(*values: Any) -> None:
        _wire(chosen, dict(zip(signature.parameters, values, strict=True)))

    wired.__signature__ = signature  # type: ignore[attr-defined]
    if chosen == STEPS:
        return dsl.pipeline(name=NAME, display_name=TITLE, description=DESCRIPTION)(wired)
    part = chosen[1:]
    return dsl.pipeline(
        name=f"{NAME}-{'-'.join(part)}",
        display_name=f"{TITLE}: {', '.join(part)}",
        description=f"Some of the steps of {TITLE}: {', '.join(part)}.",
    )(wired)


def _wire(steps: Collection[str], given: Mapping[str, Any]) -> None:
    """Declare the tasks of the chosen steps: what the parameters give, and here by hand what one step gives another.

    Args:
        steps: some of STEPS.
        given: the pipeline's parameters by name.
    """
    frozen = snapshot(
        record_follows="record" in steps,
        dataset_follows=DATASET_VERSION.name in given,
        train_follows="train" in steps,
        **_nothing("snapshot") | _arguments("snapshot", given),
    )
    # The only step whose inputs do not name what it reads: the live code and the newest tags.
    frozen.set_caching_options(enable_caching=False)
    set_up_pod(frozen, "snapshot", _pod("snapshot", given))
    dataset = frozen.outputs["dataset_reference"]
    model: dict[str, Any] = {}
    if "record" in steps:
        recorded = record(
            code=frozen.outputs["record_code"],
            annotation_version=frozen.outputs["annotation_version"],
            annotation_commit=frozen.outputs["annotation_commit"],
            **_arguments("record", given),
        )
        dataset = set_up_pod(recorded, "record", _pod("record", given)).outputs["dataset_reference"]
    if "train" in steps:
        trained = train(code=frozen.outputs["train_code"], dataset=dataset, **_arguments("train", given))
        model = {"model": set_up_pod(trained, "train", _pod("train", given)).outputs["model_reference"]}
    if "evaluate" in steps:
        evaluated = evaluate(
            code=frozen.outputs["evaluate_code"],
            candidates_digest=frozen.outputs["models_digest"],
            dataset=dataset,
            **_arguments("evaluate", given),
            **model,
        )
        model = {"model": set_up_pod(evaluated, "evaluate", _pod("evaluate", given)).outputs["selected_reference"]}
    if "test" in steps:
        tested = test(
            code=frozen.outputs["test_code"],
            images_digest=frozen.outputs["images_digest"],
            dataset=dataset,
            **_arguments("test", given),
            **(model or {"model_digest": frozen.outputs["models_digest"]}),
        )
        set_up_pod(tested, "test", _pod("test", given))


def _arguments(step: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A component's arguments that are parameters of the pipeline."""
    return {each.to[step]: given[each.name] for each in PARAMETERS if step in each.to and each.name in given}


def _nothing(step: str) -> dict[str, Any]:
    """The same arguments, empty, for those that this pipeline has no parameter for."""
    return {each.to[step]: each.kind() for each in PARAMETERS if step in each.to}


def _pod(step: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline's parameters say of a step's pod."""
    return {each.pod[step]: given[each.name] for each in PARAMETERS if step in each.pod}
