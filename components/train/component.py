"""Fit a model on a dataset version."""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    code: str,
    config: str,
    overrides: dict,
    epochs: int,
    select_by: str,
    device: str,
    on_out_of_memory: str,
    dataset: str,
    model: dsl.Output[dsl.Model],
    training_report: dsl.Output[dsl.HTML],
    weights: str = "",
    pretrained_fit: str = "half",
) -> NamedTuple("Trained", model_reference=str):  # type: ignore[valid-type]
    """Fit the configured detector; go on from the newest checkpoint when an attempt of the same inputs was killed.

    Args:
        code: this step's frozen helper code, the config included.
        config: name of the model config.
        overrides: dotted config keys and the values that replace the config's.
        epochs: training length; 0 for the config's own.
        select_by: validation metric that decides which epoch is best.
        device: cpu, cuda, …; empty for a GPU when there is one.
        on_out_of_memory: shrink (go on with smaller parts of a batch) or fail.
        dataset: reference to the dataset version.
        model: reference to the best bundle, naming the last one too.
        training_report: losses and validation curves.
        weights: reference to trained weights to begin from, or to a checkpoint to go on from; empty for random ones.
        pretrained_fit: half (at least half of the model must get a value from them) or any.
    """
    import sys

    sys.path.insert(0, code)
    from sightline import entry

    trained = entry.train(
        interface=1,
        code=code,
        dataset=dataset,
        config=config,
        overrides=overrides,
        epochs=epochs,
        select_by=select_by,
        device=device,
        on_out_of_memory=on_out_of_memory,
        weights=weights,
        pretrained_fit=pretrained_fit,
        model=model,
        training_report=training_report,
    )
    return (trained.model.to_text(),)
