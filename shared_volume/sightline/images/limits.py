"""What an image may be, for those who read none."""

from typing import Final

MAX_PIXELS: Final = 150_000_000  # a medium-format camera's; pillow itself refuses above 178,956,970
IMAGE_SUFFIXES: Final = frozenset(
    {
        *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png"),
        *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
