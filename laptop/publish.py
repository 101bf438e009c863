"""`pipeline.py publish`: make an annotation version."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from laptop import called
from sightline.errors import counted
from sightline.references import DETECTION, task_of
from sightline.services.versioning.shards import SPLITS
from sightline.settings import read_settings

DEFAULT_WORKSPACE = Path(".sightline")


def publish(
    folder: Path, category: str, version: str, form: str, policy: Mapping[str, str], task: str, workspace: Path
) -> int:
    """Publish a folder of annotations as an annotation version, and say what happened and what to type next."""
    from sightline.annotations.findings import FindingsError, summarize_findings
    from sightline.publish.annotations import publish_annotations

    try:
        published = publish_annotations(read_settings(), folder, category, version, form, policy, task)
    except FindingsError as error:
        if not error.choices:
            raise
        choices = dict(policy) | {str(code): str(outcome) for code, outcome in error.choices.items()}
        again = _command(workspace, folder, category, version, form, choices, task)
        raise FindingsError(
            f"{error}\nTo publish all the same, look at what these outcomes mean and type: {again}"
        ) from None
    row = published.publication.row
    told = task_of(row.recipe)
    if published.publication.new:
        what = "" if told == DETECTION else f" for {told}"
        counts = f"{counted(row.image_count or 0, 'image')}, {counted(row.annotation_count or 0, 'object')}{what}"
        read = "" if published.form == "labelme" else f" (read as {published.form})"
        print(f"published {row.tag}: {counts}, commit {str(row.commit)[:12]}{read}")
    else:
        print(f"{category} {version} is already published with the same content: nothing to do")
    if told != DETECTION:
        print(f"classes: {', '.join(f'{name} {count}' for name, count in sorted(published.labels.items()))}")
    if published.splits:
        shares = ", ".join(f"{split} {published.splits[split]}" for split in SPLITS if split in published.splits)
        lacking = [split for split in SPLITS if split not in published.splits]
        cut = f"; {' and '.join(lacking)} will be cut from train" if lacking else ""
        print(f"the folder's own splits are kept: {shares}{cut} (local --recipe keep_splits=false makes new ones)")
    if published.left_out:
        print(f"left out: {counted(published.left_out, 'image')} without a JSON file")
    if published.findings:
        print(summarize_findings(published.findings))
    if published.unread:
        print(
            f"hint: flags and no shape: {published.unread} images. Detection reads no flags and takes them for backgrounds; "
            "--task classification would take them"
        )
    if published.publication.new:
        print(_next(category, workspace))
    return 0


def _command(
    workspace: Path, folder: Path, category: str, version: str, form: str, policy: Mapping[str, str], task: str
) -> str:
    """The command that publishes a folder with a policy."""
    words = ["publish", str(folder), "--category", category, "--version", version]
    words += ["--format", form] * (form != "auto") + ["--task", task] * bool(task)
    for code, outcome in policy.items():
        words += ["--policy", f"{code}={outcome}"]
    where = [] if workspace == DEFAULT_WORKSPACE else ["--workspace", str(workspace)]
    return f"{called()} {shlex.join([*where, *words])}"


def _next(category: str, workspace: Path) -> str:
    """What to type next. In a pod nothing is trained by hand, and nothing there can submit: the laptop does."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return f"next, on your laptop: python pipeline.py submit --category {category}"
    where = "" if workspace == DEFAULT_WORKSPACE else f" --workspace {shlex.quote(str(workspace))}"
    return f"next: {called()} local --category {category}{where}"
