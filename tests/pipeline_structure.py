"""A compiled pipeline without what people read: its components, tasks, executors and platform, and no word of prose.

After a wanted change, make the golden file anew and read the difference:

    python pipeline.py compile -o pipeline.yaml
    python -m tests.pipeline_structure pipeline.yaml > tests/golden/sightline.yaml
"""

import ast
import sys
from pathlib import Path
from typing import Any

import yaml


def structure_of(path: Path) -> str:
    """The structure of a compiled pipeline, or of a structure, as YAML."""
    documents = [_without_prose(document) for document in yaml.safe_load_all(path.read_text())]
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor["container"]
        name = container["args"][container["args"].index("--function_to_execute") + 1]
        container["command"] = [_named(word, name) for word in container["command"]]
    return yaml.safe_dump_all(documents, width=120)


def _without_prose(value: Any) -> Any:
    """The same without descriptions. (A parameter of that name would be a mapping, and stay.)"""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if not (key == "description" and isinstance(each, str))}
        return {key: _without_prose(each) for key, each in kept.items()}
    if isinstance(value, list):
        return [_without_prose(each) for each in value]
    return value


def _named(word: str, function: str) -> str:
    """The word of a command; the source of the function, whose interface its component tells, by the name alone."""
    try:
        body = ast.parse(word).body
    except SyntaxError:
        return word
    defined = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return f"(the source of {function})" if defined == [function] else word


if __name__ == "__main__":
    sys.stdout.write(structure_of(Path(sys.argv[1])))
