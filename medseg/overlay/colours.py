"""Colours of a picture's surroundings; the labels bring their own."""

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
GROUND: Colour = (18, 19, 22)
TEXT: Colour = (236, 236, 238)
FAINT: Colour = (168, 170, 176)


def blend(colour: Colour, ground: Colour, opacity: float) -> Colour:
    """Return a colour laid over another, opacity 0 to 1."""
    red, green, blue = (round(c * opacity + g * (1 - opacity)) for c, g in zip(colour, ground, strict=True))
    return red, green, blue
