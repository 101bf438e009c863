"""Model bundles: folders that need nothing else to run. Read and written without executing anything from them."""

import ast
import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sightline.errors import SightlineError, clause

if TYPE_CHECKING:
    import torch

FORMAT = 1
WEIGHTS, CONFIG, CLASSES, PREDICTIONS = "model.safetensors", "config.py", "classes.json", "sample.predictions.json"
MANIFEST = "manifest.json"
VERSIONED = ("torch", "onedl-mmcv", "onedl-mmengine", "onedl-mmdetection")


class BundleError(SightlineError):
    """A bundle that is incomplete, was changed, or holds something that bundles do not hold."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files were verified."""

    folder: Path
    sha256: str  # of its manifest, which names every other file's: the bundle's identity
    config: Mapping[str, Any]  # resolved, as plain data
    classes: tuple[str, ...]  # names, by label
    facts: Mapping[str, Any]  # what training recorded: dataset version, code digest, metrics, …
    versions: Mapping[str, str]  # of the packages it was made with
    files: Mapping[str, str]  # name -> sha256
    sample_image: Path | None  # one of validation
    sample_predictions: list[dict[str, Any]] | None  # COCO results of the model on it


def write_bundle(
    folder: Path,
    state_dict: Mapping[str, "torch.Tensor"],
    config_text: str,
    classes: Sequence[str],
    sample_image: Path | None,
    sample_predictions: list[dict[str, Any]] | None,
    facts: Mapping[str, Any],
) -> str:
    """Write a bundle and return its manifest's sha256; the folder is either the whole new one or as it was.

    Equal input gives equal bytes. The image is copied, its predictions are COCO results, the facts are JSON values, and the
    config is the resolved one; a BundleError if that is more than data (see `parse_config`).
    """
    from safetensors.torch import save

    parse_config(config_text, CONFIG)
    # Copies: safetensors refuses tensors that share memory (tied weights), and only takes contiguous ones.
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(state_dict.items())}
    contents = {WEIGHTS: save(weights), CONFIG: config_text.encode(), CLASSES: _json(list(classes))}
    if sample_image is not None:
        contents[f"sample{sample_image.suffix.lower()}"] = sample_image.read_bytes()
    if sample_predictions is not None:
        contents[PREDICTIONS] = _json(sample_predictions)
    manifest = {
        "format": FORMAT,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())},
        "versions": _versions(),
        "facts": dict(facts),
    }
    contents[MANIFEST] = _json(manifest)
    _replace_folder(folder, contents)
    return hashlib.sha256(contents[MANIFEST]).hexdigest()


def read_bundle(folder: Path, sha256: str | None = None) -> Bundle:
    """Verify every file of a bundle and read all but its weights (see `load_state`).

    The manifest must have this sha256; None trusts the folder's own. A BundleError for what is no bundle, and for a file that
    is changed, missing or not the bundle's.
    """
    folder = Path(folder)
    digest = hashlib.sha256(_read(folder, MANIFEST)).hexdigest()
    if sha256 is not None and digest != sha256:
        raise BundleError(
            f"{folder} is not the expected model: its manifest is {digest[:12]}, not {sha256[:12]}. {_AGAIN}"
        )
    manifest = _read_json(folder, MANIFEST, {MANIFEST: digest})
    parts = ("files", "versions", "facts")
    known = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    if not known or not all(isinstance(manifest.get(part), dict) for part in parts):
        raise BundleError(f"{folder / MANIFEST} is not a bundle's manifest of format {FORMAT}. Train the model again.")
    files = manifest["files"]
    _verify(folder, files)
    classes = _read_json(folder, CLASSES, files)
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise BundleError(f"{folder / CLASSES} is not a list of class names. {_AGAIN}")
    image = next((folder / name for name in files if name.startswith("sample.") and name != PREDICTIONS), None)
    return Bundle(
        folder=folder,
        sha256=digest,
        config=parse_config(_read(folder, CONFIG, files).decode(errors="replace"), str(folder / CONFIG)),
        classes=tuple(classes),
        facts=MappingProxyType(manifest["facts"]),
        versions=MappingProxyType(manifest["versions"]),
        files=MappingProxyType(files),
        sample_image=image,
        sample_predictions=_read_json(folder, PREDICTIONS, files) if PREDICTIONS in files else None,
    )


def load_state(bundle: Bundle, model: "torch.nn.Module") -> None:
    """Load the bundle's weights into a model built from its config.

    A BundleError when the file changed since it was verified, or the weights do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = _read(bundle.folder, WEIGHTS, bundle.files)
    try:
        model.load_state_dict(load(content))
    except (RuntimeError, SafetensorError) as error:
        raise BundleError(f"The weights in {bundle.folder} do not fit its own config: {error}") from error


def parse_config(text: str, where: str) -> dict[str, Any]:
    """Read a config that is data: assignments of literals, lists, tuples, dicts and dict(key=value, …).

    The text is parsed, never executed; a BundleError names the line of `where` that is more than data.
    """
    values = {}
    try:
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = _value(value)
                case ast.Expr(value=ast.Constant(value=str())):  # a docstring
                    pass
                case _:
                    raise _NotDataError(statement.lineno)
    except _NotDataError as error:
        raise BundleError(
            f"{where}, line {error.args[0]}: a bundle's config holds literals and dict(…) only, nothing to execute. "
            "Write it from the resolved config."
        ) from None
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise BundleError(f"{where} is not a config: {clause(error)}. Train the model again.") from error
    return values


class _NotDataError(Exception):
    """A line that is more than data."""


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(word.arg for word in keywords):
            return {word.arg: _value(word.value) for word in keywords}
    raise _NotDataError(node.lineno)


_AGAIN = "Fetch it again from storage, or train it again."


def _versions() -> dict[str, str]:
    versions = {}
    for name in VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{uuid.uuid4().hex}") for _ in range(2))
    try:
        new.mkdir()
        for name, content in contents.items():
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path, name: str, files: Mapping[str, str] | None = None) -> bytes:
    """A file's bytes, of the digest that the manifest's `files` give where they are given."""
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder} is not a whole model bundle: {name} cannot be read ({error.strerror}). {_AGAIN}"
        ) from error
    if files is not None and hashlib.sha256(content).hexdigest() != files.get(name):
        raise BundleError(f"{folder / name} is not the file that the bundle was made with. {_AGAIN}")
    return content


def _read_json(folder: Path, name: str, files: Mapping[str, str]) -> Any:
    try:
        return json.loads(_read(folder, name, files))
    except ValueError as error:
        raise BundleError(f"{folder / name} is not valid JSON ({error}). {_AGAIN}") from error


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    there = {path.name for path in folder.iterdir()} - {MANIFEST}
    problems = {
        "missing": sorted({*files, WEIGHTS, CONFIG, CLASSES} - there),
        "not the bundle's": sorted(there - set(files)),
        "changed": sorted(name for name in there & set(files) if _digest(folder / name) != files[name]),
    }
    if any(problems.values()):
        told = "; ".join(f"{problem}: {', '.join(names)}" for problem, names in problems.items() if names)
        raise BundleError(f"The model bundle {folder} is not as it was written ({told}). {_AGAIN}")


def _digest(path: Path) -> str:
    if not path.is_file():
        return "not a file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
