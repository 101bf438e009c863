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
    dataset: str,
    predictions: dsl.Output[dsl.Artifact],
    test_report: dsl.Output[dsl.HTML],
    model: str = "",
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
        dataset: reference to the dataset version; not used when there are images.
        predictions: where the drawn images and the predictions (COCO results) lie.
        test_report: a gallery, with milliseconds per image.
        model: reference to the selected model; empty when this run selected none.
        model_uri: a bundle's URI instead of a reference, when this run selected none.
        model_digest: of what lies there, for the cache.
    """
    import sys

    sys.path.insert(0, code)
    from sightline import entry

    entry.test(
        interface=1,
        code=code,
        category=category,
        dataset=dataset,
        images=images,
        images_digest=images_digest,
        model=model,
        model_uri=model_uri,
        model_digest=model_digest,
        score_threshold=score_threshold,
        device=device,
        predictions=predictions,
        test_report=test_report,
    )
