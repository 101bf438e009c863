"""A step as KFP starts it: the compiled component's own command, with an executor input as its launcher makes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format

OUTPUTS = "executor_output.json"


def executor_command(component: Any, parameters: Mapping[str, Any], folder: Path) -> list[str]:
    """The command and arguments of a step's container.

    Args:
        component: made by `dsl.component`.
        parameters: its arguments.
        folder: where its artifacts and its output go, as the step sees it.
    """
    spec = json_format.MessageToDict(component.pipeline_spec)
    name = component.name
    (container,) = (each["container"] for each in spec["deploymentSpec"]["executors"].values())
    artifacts = spec["components"][f"comp-{name}"].get("outputDefinitions", {}).get("artifacts", {})
    given = {
        "inputs": {"parameterValues": dict(parameters)},
        "outputs": {
            "artifacts": {
                key: {
                    "artifacts": [{"name": key, "type": each["artifactType"], "uri": str(folder / key), "metadata": {}}]
                }
                for key, each in artifacts.items()
            },
            "parameters": {},
            "outputFile": str(folder / OUTPUTS),
        },
    }
    arguments = [json.dumps(given) if each == "{{$}}" else each for each in container["args"]]
    return [*container["command"], *arguments]
