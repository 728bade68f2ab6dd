"""Packs circles into a rectangle: rows of centres, and radii that just fit."""

import math


# EVOLVE-BLOCK-START
def place_centers(count, width, height):
    """Returns the centres as (x, y) in rows, every second of which is shifted."""
    columns, shift, margin = 4, 0.25, 0.1
    rows = math.ceil(count / columns)
    step_x = (width - 2.0 * margin) / (columns - 1 + shift)
    step_y = (height - 2.0 * margin) / (rows - 1)
    centers = []
    for i in range(count):
        row, column = divmod(i, columns)
        x = margin + step_x * (column + shift * (row % 2))
        centers.append((x, margin + step_y * row))
    return centers


def choose_radii(centers, width, height):
    """Returns each circle half the way to its nearest neighbour, but not beyond the border."""
    radii = []
    for i, (x, y) in enumerate(centers):
        radius = min(x, y, width - x, height - y)
        for j, (other_x, other_y) in enumerate(centers):
            if j != i:
                radius = min(radius, math.hypot(x - other_x, y - other_y) / 2.0)
        radii.append(radius)
    return radii


def pack(count):
    """Returns a row (x, y, radius) for each circle."""
    width = 1.2
    height = 2.0 - width
    centers = place_centers(count, width, height)
    radii = choose_radii(centers, width, height)
    return [(x, y, radius) for (x, y), radius in zip(centers, radii, strict=True)]


# EVOLVE-BLOCK-END
