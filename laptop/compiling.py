"""Write the pipeline as YAML."""

import os
from pathlib import Path


def compile_pipeline(output: Path, registry: str | None, tag: str | None) -> int:
    """Compile the pipeline for the Kubeflow UI.

    Args:
        output: the YAML file to write.
        registry: where the images lie; None for SIGHTLINE_REGISTRY or the default.
        tag: the images' tag; None for SIGHTLINE_TAG or the default.
    """
    # The components read the images' names when they are declared, so this comes before the import.
    if registry:
        os.environ["SIGHTLINE_REGISTRY"] = registry
    if tag:
        os.environ["SIGHTLINE_TAG"] = tag
    from kfp import compiler

    from pipeline import sightline

    output.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(sightline, str(output))
    print(f"{output}: upload it in the Kubeflow UI, or run it here with: python pipeline.py local --category …")
    return 0
