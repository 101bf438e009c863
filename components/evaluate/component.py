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
        scores: the selected model's COCO metrics.
        confusion_matrix: of the selected model, boxes at IoU 0.5.
        evaluation_report: scores, curves, confusion, best and worst images.
        model: reference to a trained model; empty when this run trained none.
    """
    import json
    import sys
    from pathlib import Path

    sys.path.insert(0, code)
    from sightline.evaluate import evaluate_models
    from sightline.references import DatasetReference, ModelReference, write_reference

    given = DatasetReference.from_text(dataset)
    trained = ModelReference.from_text(model) if model else None
    result = evaluate_models(Path(code).name, given, trained, candidates, split, select_by, device)
    write_reference(selected_model, result.selected.to_json())
    for name, value in result.headline.items():
        scores.log_metric(name, value)
    confusion_matrix.log_confusion_matrix(list(result.confusion.labels), result.confusion.matrix.tolist())
    # The UI shows an artifact's file, and the local runner reuses no result whose artifact has none.
    for metrics in (scores, confusion_matrix):
        Path(metrics.path).write_text(json.dumps(metrics.metadata), encoding="utf-8")
    Path(evaluation_report.path).write_text(result.report, encoding="utf-8")
    return (result.selected.to_text(),)
