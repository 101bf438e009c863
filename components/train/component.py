"""Fit a detector on a dataset version."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    code: str,
    category: str,
    config: str,
    overrides: dict,
    epochs: int,
    select_by: str,
    device: str,
    model: dsl.Output[dsl.Model],
    training_report: dsl.Output[dsl.HTML],
    dataset: dsl.Input[dsl.Dataset] = None,
    dataset_version: str = "",
) -> None:
    """Fit the configured detector; go on from the newest checkpoint when an attempt of the same inputs was killed.

    Args:
        code: this step's frozen helper code, the config included.
        category: what the dataset is of.
        config: name of the model config.
        overrides: dotted config keys and the values that replace the config's.
        epochs: training length; 0 for the config's own.
        select_by: validation metric that decides which epoch is best.
        device: cpu, cuda, …; empty for a GPU when there is one.
        model: reference to the best bundle, naming the last one too.
        training_report: losses and validation curves.
        dataset: reference to the dataset version.
        dataset_version: the version instead of a reference, when this run did not record it.
    """
    import sys
    from pathlib import Path

    sys.path.insert(0, code)
    from sightline.datasets import given_dataset
    from sightline.references import write_reference
    from sightline.train import train_model

    given = given_dataset(dataset.path if dataset else None, category, dataset_version)
    trained = train_model(Path(code), given, config, overrides, epochs, select_by, device)
    write_reference(model, trained.model.to_json())
    Path(training_report.path).write_text(trained.report, encoding="utf-8")
