"""How the steps hang together: the whole pipeline, or any part of it whose missing inputs have become parameters."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kfp import dsl

from components.cluster import place, resource_parameters
from components.evaluate.component import evaluate
from components.record.component import record
from components.snapshot.component import snapshot
from components.test.component import test
from components.train.component import train

STEPS = ("record", "train", "evaluate", "test")
"""In the order they run; snapshot always runs before them."""


def wire(steps: Collection[str], given: Mapping[str, Any]) -> None:
    """Declare the tasks of the chosen steps inside a pipeline function.

    Args:
        steps: some of STEPS.
        given: the pipeline function's parameters by name.
    """
    frozen = snapshot(
        category=given["category"],
        annotation_version=given.get("annotation_version", ""),
        dataset_version=given.get("dataset_version", ""),
        config=given.get("config", ""),
        recipe=given.get("recipe", {}),
        overrides=given.get("overrides", {}),
        epochs=given.get("epochs", 0),
        select_by=given.get("select_by", ""),
        record_follows="record" in steps,
        dataset_follows="record" not in steps and _reads_dataset(steps),
        test_images=given.get("test_images", ""),
        candidate_models=given.get("candidate_models", []),
        model=given.get("model", ""),
    )
    # The only step whose inputs do not name what it reads: the live code and the newest tags.
    frozen.set_caching_options(enable_caching=False)
    place(frozen, "snapshot", given)
    dataset = frozen.outputs["dataset_reference"]
    model: dict[str, Any] = {}
    if "record" in steps:
        recorded = record(
            code=frozen.outputs["record_code"],
            annotation_version=frozen.outputs["annotation_version"],
            annotation_commit=frozen.outputs["annotation_commit"],
            **_pick(given, "category", "recipe"),
        )
        dataset = place(recorded, "record", given).outputs["dataset_reference"]
    if "train" in steps:
        trained = train(
            code=frozen.outputs["train_code"],
            dataset=dataset,
            **_pick(given, "config", "overrides", "epochs", "select_by", "device", "on_out_of_memory"),
        )
        model = {"model": place(trained, "train", given).outputs["model_reference"]}
    if "evaluate" in steps:
        evaluated = evaluate(
            code=frozen.outputs["evaluate_code"],
            candidates=given["candidate_models"],
            candidates_digest=frozen.outputs["models_digest"],
            split=given["evaluation_split"],
            dataset=dataset,
            **_pick(given, "select_by", "device"),
            **model,
        )
        model = {"model": place(evaluated, "evaluate", given).outputs["selected_reference"]}
    if "test" in steps:
        tested = test(
            code=frozen.outputs["test_code"],
            images=given["test_images"],
            images_digest=frozen.outputs["images_digest"],
            dataset=dataset,
            **_pick(given, "category", "score_threshold", "device"),
            **(model or {"model_uri": given["model"], "model_digest": frozen.outputs["models_digest"]}),
        )
        place(tested, "test", given)


def partial_pipeline(whole: Callable[..., Any], steps: Collection[str]) -> Any:
    """A pipeline of some of the steps; what an omitted step would have given is a parameter of it.

    Args:
        whole: the pipeline function of all steps, whose parameters and defaults are kept as far as they are needed.
        steps: some of STEPS.
    """
    needed = _needed_parameters(steps)
    parameters = [item for name, item in inspect.signature(whole).parameters.items() if name in needed]
    extra = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str, default="")
        for name in ("dataset_version", "model")
        if name in needed
    ]

    signature = inspect.Signature(parameters + extra)

    def part(*values: Any) -> None:
        wire(steps, dict(zip(signature.parameters, values, strict=True)))

    part.__signature__ = signature  # type: ignore[attr-defined]
    part.__doc__ = f"Some of the steps of Sightline: {', '.join(steps)}."
    return dsl.pipeline(name=f"sightline-{'-'.join(steps)}", display_name="Sightline: " + ", ".join(steps))(part)


def _needed_parameters(steps: Collection[str]) -> set[str]:
    needed = {"category", "node_selector", "tolerations"}
    for step in steps:
        needed.update(resource_parameters(step))
    if "record" in steps:
        needed |= {"annotation_version", "recipe"}
    elif _reads_dataset(steps):
        needed.add("dataset_version")
    if "train" in steps:
        needed |= {"config", "overrides", "epochs", "select_by", "device", "on_out_of_memory"}
    if "evaluate" in steps:
        needed |= {"select_by", "candidate_models", "evaluation_split", "device"}
    if "test" in steps:
        needed |= {"test_images", "score_threshold", "device"}
        if not {"train", "evaluate"} & set(steps):
            needed.add("model")
    return needed


def _reads_dataset(steps: Collection[str]) -> bool:
    return bool({"train", "evaluate", "test"} & set(steps))


def _pick(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names}
