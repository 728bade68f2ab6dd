"""Places points in a triangle: an inner and an outer ring around the middle."""

import math


# EVOLVE-BLOCK-START
def place(count):
    """Returns a row (x, y) for each point of the equilateral triangle."""
    middle_x, middle_y = 0.5, 0.28867513
    inner_count, inner_radius, inner_turn = 4, 0.1, 0.4
    outer_radius, outer_turn, squeeze = 0.25, 0.0, 1.0
    points = []
    for i in range(count):
        if i < inner_count:
            angle = inner_turn + 2.0 * math.pi * i / inner_count
            radius = inner_radius
        else:
            angle = outer_turn + 2.0 * math.pi * i / (count - inner_count)
            radius = outer_radius
        x = middle_x + squeeze * radius * math.cos(angle)
        points.append((x, middle_y + radius * math.sin(angle)))
    return points


# EVOLVE-BLOCK-END
