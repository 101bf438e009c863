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


def make_pipeline(steps: Collection[str]) -> Any:
    """The pipeline of some of STEPS, snapshot always; what an omitted step would have given is a parameter of it."""
    chosen = tuple(step for step in STEPS if step in {"snapshot", *steps})
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [
            inspect.Parameter(each.name, either, annotation=each.kind, default=each.default)
            for each in parameters_of(chosen)
        ]
    )

    def wired(*values: Any) -> None:
        _wire(chosen, dict(zip(signature.parameters, values, strict=True)))

    wired.__signature__ = signature  # type: ignore[attr-defined]
    name, title, part = "sightline", "Sightline", chosen[1:]
    description = "From labelme annotations to an evaluated, tested, versioned model."
    if chosen != STEPS:
        description = f"Some of the steps of {title}: {', '.join(part)}."
        name, title = f"{name}-{'-'.join(part)}", f"{title}: {', '.join(part)}"
    return dsl.pipeline(name=name, display_name=title, description=description)(wired)


def _wire(steps: Collection[str], given: Mapping[str, Any]) -> None:
    """Declare the tasks of the chosen steps: what the parameters give, and here by hand what one step gives another."""

    def add(component: Any, **others: Any) -> dsl.PipelineTask:
        task = component(code=frozen.outputs[f"{component.name}_code"], **_arguments(component.name, given), **others)
        return set_up_pod(task, component.name, _pod(component.name, given))

    frozen = snapshot(
        record_follows="record" in steps,
        dataset_follows=DATASET_VERSION.name in given,
        train_follows="train" in steps,
        # Empty where this pipeline has no such parameter.
        **{each.to["snapshot"]: given.get(each.name, each.kind()) for each in PARAMETERS if "snapshot" in each.to},
    )
    # The only step whose inputs do not name what it reads: the live code and the newest tags.
    frozen.set_caching_options(enable_caching=False)
    set_up_pod(frozen, "snapshot", _pod("snapshot", given))
    dataset = frozen.outputs["dataset_reference"]
    model: dict[str, Any] = {}
    if "record" in steps:
        named = {name: frozen.outputs[name] for name in ("annotation_version", "annotation_commit")}
        dataset = add(record, **named).outputs["dataset_reference"]
    if "train" in steps:
        trained = add(train, dataset=dataset, weights=frozen.outputs["weights_reference"])
        model = {"model": trained.outputs["model_reference"]}
    models_digest = frozen.outputs["models_digest"]
    if "evaluate" in steps:
        evaluated = add(evaluate, candidates_digest=models_digest, dataset=dataset, **model)
        model = {"model": evaluated.outputs["selected_reference"]}
    if "test" in steps:
        chosen = model or {"model_digest": models_digest}
        add(test, images_digest=frozen.outputs["images_digest"], dataset=dataset, **chosen)


def _arguments(step: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A component's arguments that are parameters of the pipeline."""
    return {each.to[step]: given[each.name] for each in PARAMETERS if step in each.to and each.name in given}


def _pod(step: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline's parameters say of a step's pod."""
    return {each.pod[step]: given[each.name] for each in PARAMETERS if step in each.pod}
