"""`--smoke`: the same pipeline on few images for one epoch, under names of its own, before the long run."""

from collections.abc import Collection, Mapping
from typing import Any

from components.parameters import CATEGORY, EPOCHS, PARAMETERS, RECIPE, STEPS, Parameter
from sightline.versions import smoke_category

IMAGES = 20
# Step and what its pod gets; more would wait for room on a full cluster. How much memory a model takes depends on the size of
# a batch and of its photographs, and not on their number: that stays.
SIZES = {(step, "cpu"): "1" for step in STEPS} | {(step, "gpus"): "1" for step in STEPS} | {("record", "memory"): "1Gi"}


def smoke_values(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run as a smoke test of it has them, for a pipeline with these parameters: name -> default.

    What is given stays: `--epochs 2` makes two epochs, `--recipe smoke=40` forty images. Pods get less than by default,
    and never more.
    """
    small: dict[str, Any] = {}
    for each in PARAMETERS:
        if name := _name(each, known):
            small |= {name: 1} if each is EPOCHS else _smaller(each, name, known)
    recipe = _name(RECIPE, known) or RECIPE.name  # a pipeline without record says itself that it takes none
    return {**small, **values, recipe: {"smoke": IMAGES, **(values.get(recipe) or {})}}


def _smaller(size: Parameter, name: str, known: Mapping[str, Any]) -> dict[str, str]:
    """The size of a pod that is enough for a smoke test; nothing where it has no more by default."""
    enough = [SIZES[one] for one in size.pod.items() if one in SIZES]
    return {name: enough[0]} if enough and _is_less(enough[0], str(known[name])) else {}


def _is_less(amount: str, than: str) -> bool:
    """Whether one of Kubernetes' amounts is less than another; False where that is none."""
    from kubernetes.utils.quantity import parse_quantity  # takes half a second, which no other command needs

    try:
        return bool(parse_quantity(amount) < parse_quantity(than))
    except ValueError:
        return False


def _name(parameter: Parameter, known: Collection[str]) -> str:
    """What a pipeline calls a parameter, which may be its older name; empty where it has none."""
    return next((name for name in (parameter.name, parameter.was) if name and name in known), "")


def is_smoke_run(values: Mapping[str, Any]) -> bool:
    """Whether a run's parameters make it a smoke test."""
    recipe = RECIPE.value_in(values)
    return isinstance(recipe, Mapping) and bool(recipe.get("smoke"))


def publishes_as(values: Mapping[str, Any]) -> str:
    """The category under which a run with these parameters publishes; empty where they name none."""
    category = str(CATEGORY.value_in(values) or "")
    return smoke_category(category) if category and is_smoke_run(values) else category


def outlook(result: Mapping[str, Any]) -> list[str]:
    """What a smoke test that succeeded says of the real run; `result` is what last_smoke.json holds."""
    lines = [
        f"smoke test passed: {_works(result['steps'])}. Its scores say nothing, and `versions` shows it with --all only."
    ]
    (few, whole), train = result.get("images_of", (1, 1)), result["steps"].get("train", {})
    if train.get("state") == "done":
        seconds = train["seconds"] * max(whole / few, 1)
        lines.append(
            f"training took {train['seconds']:.0f} s for one epoch of {few} of {whole} images, loading libraries included. In proportion an "
            f"epoch of the real run takes {_rough(seconds)} on this machine, likely less. This is only an estimate."
        )
    return lines


def _works(ran: Collection[str]) -> str:
    """What is shown by a run of these steps, whether they ran now or were reused."""
    others = [step for step in STEPS if step not in ran]
    if not others:
        return "every step works"
    works = [step for step in STEPS if step in ran]
    return f"{_listed(works)} {'works' if len(works) == 1 else 'work'}; not tried: {_listed(others)}"


def _listed(steps: list[str]) -> str:
    return " and ".join([", ".join(steps[:-1]), steps[-1]] if len(steps) > 1 else steps)


def _rough(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} minutes"
