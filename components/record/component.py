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
    from sightline.record import record_dataset
    from sightline.references import write_reference

    recorded = record_dataset(code, category, annotation_version, annotation_commit, recipe)
    write_reference(dataset, recorded.dataset.to_json())
    with open(data_report.path, "w", encoding="utf-8") as file:
        file.write(recorded.report)
    return (recorded.dataset.to_text(),)
