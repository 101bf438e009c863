"""Use the selected model on test images."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def test(
    code: str,
    category: str,
    images: str,
    images_digest: str,
    score_threshold: float,
    device: str,
    predictions: dsl.Output[dsl.Artifact],
    test_report: dsl.Output[dsl.HTML],
    dataset: dsl.Input[dsl.Dataset] = None,
    dataset_version: str = "",
    model: dsl.Input[dsl.Model] = None,
    model_uri: str = "",
    model_digest: str = "",
) -> None:
    """Find objects on the test split, or on any folder or storage prefix of images; draw what was found.

    Args:
        code: this step's frozen helper code.
        category: what the dataset is of.
        images: folder, gs:// or file:// prefix of images; empty for the dataset version's test split.
        images_digest: of what lies there, for the cache.
        score_threshold: detections below it are neither drawn nor counted.
        device: cpu, cuda, …; empty for a GPU when there is one.
        predictions: where the drawn images and the predictions (COCO results) lie.
        test_report: a gallery, with milliseconds per image.
        dataset: reference to the dataset version.
        dataset_version: the version instead of a reference, when this run did not record it.
        model: reference to the selected model.
        model_uri: a bundle's URI instead of a reference, when this run selected none.
        model_digest: of what lies there, for the cache.
    """
    import sys
    from pathlib import Path

    sys.path.insert(0, code)
    from sightline.datasets import given_dataset
    from sightline.models import given_model
    from sightline.references import write_reference
    from sightline.test import test_model

    given = None if images else given_dataset(dataset.path if dataset else None, category, dataset_version)
    chosen = given_model(model.path if model else None, model_uri, category)
    result = test_model(Path(code).name, category, chosen, given, images, score_threshold, device)
    write_reference(predictions, result.reference)
    Path(test_report.path).write_text(result.report, encoding="utf-8")
