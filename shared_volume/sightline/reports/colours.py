"""One colour per class, the same in every picture and chart."""

import colorsys

# Told apart by most colour-blind readers, and readable on white as well as on near-black.
PALETTE = (
    "#3b82f6",
    "#f97316",
    "#10b981",
    "#e5484d",
    "#a855f7",
    "#d9a406",
    "#06a8c4",
    "#ec4899",
    "#7cb518",
    "#a8714a",
)
_GOLDEN_ANGLE = 0.618033988749895  # of a turn: hues after the palette's never come close to their neighbours'


def colour(index: int) -> str:
    """The colour of the class (or series) with this index, as `#rrggbb`. Never changes with the number of classes."""
    if index < len(PALETTE):
        return PALETTE[index]
    extra = index - len(PALETTE)
    lightness = (0.45, 0.6)[extra % 2]
    red, green, blue = colorsys.hls_to_rgb((extra * _GOLDEN_ANGLE) % 1, lightness, 0.7)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def rgb(colour_name: str) -> tuple[int, int, int]:
    """`#rrggbb` as three bytes."""
    return int(colour_name[1:3], 16), int(colour_name[3:5], 16), int(colour_name[5:7], 16)


def text_colour_on(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on `background`."""
    red, green, blue = background
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return (16, 16, 16) if brightness > 140 else (255, 255, 255)
