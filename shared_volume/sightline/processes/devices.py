"""Which device a model runs on."""

from typing import TYPE_CHECKING

from sightline.errors import SightlineError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> "torch.device":
    """The named device, or for an empty name a GPU when there is one, else the CPU.

    Raises:
        SightlineError: there is no such device here.
    """
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
