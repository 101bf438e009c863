"""Score candidate models and select one."""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def evaluate(
    code: str,
    candidates: list,
    candidates_digest: str,
    split: str,
    select_by: str,
    device: str,
    dataset: str,
    selected_model: dsl.Output[dsl.Model],
    scores: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    evaluation_report: dsl.Output[dsl.HTML],
    model: str = "",
) -> NamedTuple("Evaluated", selected_reference=str):  # type: ignore[valid-type]
    """Compare the trained model's best and last bundles, and bundles given by URI, on one split.

    Args:
        code: this step's frozen helper code.
        candidates: URIs of further model bundles.
        candidates_digest: of what lies there, for the cache.
        split: train, val or test.
        select_by: metric that decides which candidate is selected.
        device: cpu, cuda, …; empty for a GPU when there is one.
        dataset: reference to the dataset version.
        selected_model: reference to the selected bundle.
        scores: the selected model's metrics.
        confusion_matrix: of the selected model, boxes at IoU 0.5.
        evaluation_report: scores, curves, confusion, best and worst images.
        model: reference to a trained model; empty when this run trained none.
    """
    import sys

    sys.path.insert(0, code)
    from sightline import entry

    evaluated = entry.evaluate(
        interface=1,
        code=code,
        dataset=dataset,
        model=model,
        candidates=candidates,
        candidates_digest=candidates_digest,
        split=split,
        select_by=select_by,
        device=device,
        selected_model=selected_model,
        scores=scores,
        confusion_matrix=confusion_matrix,
        evaluation_report=evaluation_report,
    )
    return (evaluated.selected.to_text(),)
