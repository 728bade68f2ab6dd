"""Packs circles into the unit square: one in the middle, and two rings around it."""

import math


# EVOLVE-BLOCK-START
def place_centers(count):
    """Returns the centres as (x, y): the middle, an inner ring, and the rest on an outer ring."""
    middle_x, middle_y = 0.5, 0.5
    inner_count, inner_radius, inner_turn = 8, 0.22, 0.0
    outer_radius, outer_turn, margin = 0.7, 0.0, 0.01
    centers = [(middle_x, middle_y)]
    for i in range(1, count):
        if i <= inner_count:
            angle = inner_turn + 2.0 * math.pi * i / inner_count
            radius = inner_radius
        else:
            angle = outer_turn + 2.0 * math.pi * i / (count - 1 - inner_count)
            radius = outer_radius
        x = middle_x + radius * math.cos(angle)
        y = middle_y + radius * math.sin(angle)
        centers.append((min(max(x, margin), 1.0 - margin), min(max(y, margin), 1.0 - margin)))
    return centers


def choose_radii(centers):
    """Returns each circle half the way to its nearest neighbour, but not beyond the border."""
    radii = []
    for i, (x, y) in enumerate(centers):
        radius = min(x, y, 1.0 - x, 1.0 - y)
        for j, (other_x, other_y) in enumerate(centers):
            if j != i:
                radius = min(radius, math.hypot(x - other_x, y - other_y) / 2.0)
        radii.append(radius)
    return radii


def pack(count):
    """Returns a row (x, y, radius) for each circle."""
    centers = place_centers(count)
    radii = choose_radii(centers)
    return [(x, y, radius) for (x, y), radius in zip(centers, radii, strict=True)]


# EVOLVE-BLOCK-END
