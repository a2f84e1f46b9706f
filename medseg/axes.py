"""The array axes I, J and K, and how they are spoken of."""

AXES = "IJK"
# Voxels along I, J and K: of a grid or a patch.
Sides = tuple[int, int, int]


def is_orientation(text: str) -> bool:
    """Say whether a text names one of L/R, one of P/A and one of I/S, such as "RAS" or "SAL"."""
    return sorted(text.translate(str.maketrans("LPI", "RAS"))) == ["A", "R", "S"]
