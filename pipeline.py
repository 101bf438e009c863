#!/usr/bin/env python3
"""The Sightline pipeline, and the commands of a laptop: python pipeline.py --help."""

import sys

if __name__ == "__main__":
    # The commands load kfp only where they need it, so that --help answers at once.
    from laptop.cli import main

    sys.exit(main())

from kfp import dsl

from components.wiring import wire


@dsl.pipeline(
    name="sightline",
    display_name="Sightline",
    description="From labelme annotations to an evaluated, tested, versioned model.",
)
def sightline(
    category: str = "plates",
    annotation_version: str = "",
    recipe: dict = {},  # noqa: B006  # the form of the Kubeflow UI shows the default
    config: str = "mask_rcnn_r18_small",
    overrides: dict = {},  # noqa: B006
    epochs: int = 0,
    select_by: str = "bbox_mAP",
    candidate_models: list = [],  # noqa: B006
    evaluation_split: str = "test",
    test_images: str = "",
    score_threshold: float = 0.3,
    device: str = "",
    on_out_of_memory: str = "shrink",
    record_cpu: str = "2",
    record_memory: str = "2Gi",
    train_cpu: str = "2",
    train_memory: str = "4Gi",
    train_gpus: str = "0",
    evaluate_cpu: str = "2",
    evaluate_memory: str = "4Gi",
    evaluate_gpus: str = "0",
    test_cpu: str = "2",
    test_memory: str = "4Gi",
    test_gpus: str = "0",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
) -> None:
    """Snapshot, record, train, evaluate, test. Empty texts and zeros mean: the newest, the config's own, a GPU if any.

    Sizes are limits as Kubernetes writes them; they, node_selector and tolerations mean nothing outside a cluster.
    """
    wire(("record", "train", "evaluate", "test"), locals())
