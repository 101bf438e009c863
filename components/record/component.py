"""Turn an annotation version into a dataset version."""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def record(
    code: str,
    category: str,
    annotation_version: str,
    annotation_commit: str,
    recipe: dict,
    dataset: dsl.Output[dsl.Dataset],
    data_report: dsl.Output[dsl.HTML],
) -> NamedTuple("Recorded", dataset_reference=str):  # type: ignore[valid-type]
    """Validate, convert to COCO, split and publish. Gives the dataset version as one line of JSON.

    Args:
        code: this step's frozen helper code.
        category: what the annotations are of.
        annotation_version: the published annotation version.
        annotation_commit: its commit; names the content for KFP's cache.
        recipe: keys of the category's recipe and the values that stand in for those of its file.
        dataset: reference to the dataset version.
        data_report: what is in it, and everything that was dropped or fixed.
    """
    import sys

    sys.path.insert(0, code)
    from sightline import entry

    recorded = entry.record(
        interface=1,
        code=code,
        category=category,
        annotation_version=annotation_version,
        annotation_commit=annotation_commit,
        recipe=recipe,
        dataset=dataset,
        data_report=data_report,
    )
    return (recorded.dataset.to_text(),)
