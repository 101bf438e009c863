"""Freeze what a run uses."""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def snapshot(
    category: str,
    annotation_version: str,
    dataset_version: str,
    config: str,
    recipe: dict,
    overrides: dict,
    epochs: int,
    select_by: str,
    record_follows: bool,
    dataset_follows: bool,
    train_follows: bool,
    test_images: str,
    candidate_models: list,
    model: str,
    train_gpus: str = "",
    evaluate_gpus: str = "",
    test_gpus: str = "",
    pretrained: str = "",
    resume_from: str = "",
) -> NamedTuple(  # type: ignore[valid-type]
    "Frozen",
    record_code=str,
    train_code=str,
    evaluate_code=str,
    test_code=str,
    annotation_version=str,
    annotation_commit=str,
    dataset_version=str,
    dataset_reference=str,
    images_digest=str,
    models_digest=str,
    code_digest=str,
    weights_reference=str,
):
    """Freeze the live helper code per step, and name what the other steps read: versions, commits, digests.

    Args:
        category: what the run works on.
        annotation_version: empty for the newest.
        dataset_version: used when nothing is recorded; empty for the newest.
        config: the model config whose files belong to the train step's code.
        recipe: looked at, and for the run's record in SQL, like the next three; see record.
        overrides: see train.
        epochs: see train.
        select_by: see train and evaluate.
        record_follows: whether the run records, so that an annotation version is needed.
        dataset_follows: whether the run reads a dataset version that it does not record itself.
        train_follows: whether the run trains, so that a config is needed.
        test_images: folder or prefix of images to test on.
        candidate_models: bundles to compare with the trained one.
        model: a bundle to test when this run selects none.
        train_gpus: how many GPUs the step's pod gets, like the next two; more than it uses is refused.
        evaluate_gpus: see train_gpus.
        test_gpus: see train_gpus.
        pretrained: trained weights to begin from, which are fetched to the volume.
        resume_from: the run whose training goes on; its checkpoint is kept on the volume.
    """
    import os
    import sys

    live = os.path.join(os.environ.get("SIGHTLINE_VOLUME", "/shared_volume"), "code")
    # Resolved once: `sync` may put another copy in its place while this one is being imported.
    code = os.path.realpath(live)
    if not os.path.isdir(code):
        raise RuntimeError(f"There is no helper code at {live}. Put it there with: python pipeline.py sync")
    if not os.path.isfile(os.path.join(code, "sightline", "entry.py")):
        raise RuntimeError("The helper code is older than this pipeline. Bring it up to date: python pipeline.py sync")
    sys.path.insert(0, code)
    from sightline import entry

    frozen = entry.snapshot(
        interface=1,
        category=category,
        annotation_version=annotation_version,
        dataset_version=dataset_version,
        config=config,
        recipe=recipe,
        overrides=overrides,
        epochs=epochs,
        select_by=select_by,
        record_follows=record_follows,
        dataset_follows=dataset_follows,
        train_follows=train_follows,
        test_images=test_images,
        candidate_models=candidate_models,
        model=model,
        train_gpus=train_gpus,
        evaluate_gpus=evaluate_gpus,
        test_gpus=test_gpus,
        pretrained=pretrained,
        resume_from=resume_from,
    )
    return (
        frozen.record_code,
        frozen.train_code,
        frozen.evaluate_code,
        frozen.test_code,
        frozen.annotation_version,
        frozen.annotation_commit,
        frozen.dataset_version,
        frozen.dataset_reference,
        frozen.images_digest,
        frozen.models_digest,
        frozen.code_digest,
        frozen.weights_reference,
    )
