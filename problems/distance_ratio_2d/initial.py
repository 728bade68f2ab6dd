"""Places points in the plane: one in the middle, and two rings around it."""

import math


# EVOLVE-BLOCK-START
def place(count, dimensions):
    """Returns a row of coordinates for each point."""
    middle_x, middle_y = 0.0, 0.0
    inner_count, inner_radius, inner_turn = 5, 1.0, 0.0
    outer_radius, outer_turn, outer_wave = 2.2, 0.0, 0.0
    points = [(middle_x, middle_y)]
    for i in range(1, count):
        if i <= inner_count:
            angle = inner_turn + 2.0 * math.pi * i / inner_count
            radius = inner_radius
        else:
            angle = outer_turn + 2.0 * math.pi * i / (count - 1 - inner_count)
            radius = outer_radius + outer_wave * math.cos(5.0 * angle)
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


# EVOLVE-BLOCK-END
