"""Which device a model runs on."""

from typing import TYPE_CHECKING, Final

from sightline.errors import SightlineError, nearest

if TYPE_CHECKING:
    import torch

# Torch's names of what a model can be trained on (a number may follow, like cuda:1), and what else people call them.
DEVICES: Final = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla")
MEANT: Final = {"gpu": "cuda", "nvidia": "cuda", "rocm": "cuda", "amd": "cuda", "metal": "mps", "tpu": "xla"}


def check_device(name: str) -> None:
    """Make sure that a device can be one, on whatever machine, else name the nearest. Needs no torch."""
    kind, colon, number = name.partition(":")
    if not name or (kind in DEVICES and number.isdecimal() == bool(colon)):
        return
    if kind in DEVICES:
        raise SightlineError(f"There is no device {name!r}. Write a number after {kind}:, like {kind}:0.")
    meant = MEANT.get(kind.lower())
    hint = f" Did you mean {meant!r}?" if meant else nearest(kind, DEVICES)
    raise SightlineError(f"There is no device {name!r}.{hint}")


def choose_device(name: str) -> "torch.device":
    """The named device, which must be there; for an empty name a GPU when there is one, else the CPU."""
    check_device(name)
    import torch

    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SightlineError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0]}). Try cpu."
        ) from None
    return device
