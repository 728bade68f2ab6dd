"""Places points in the plane: an inner and an outer ring."""

import math


# EVOLVE-BLOCK-START
def place(count):
    """Returns a row (x, y) for each point."""
    inner_count, inner_radius, inner_turn, inner_shift = 5, 0.45, 0.3, 0.05
    outer_radius, outer_wave, outer_turn, stretch = 1.0, 0.05, 0.0, 1.0
    points = []
    for i in range(count):
        if i < inner_count:
            angle = inner_turn + 2.0 * math.pi * i / inner_count
            radius = inner_radius + inner_shift * i
        else:
            angle = outer_turn + 2.0 * math.pi * i / (count - inner_count)
            radius = outer_radius + outer_wave * math.cos(3.0 * angle)
        points.append((stretch * radius * math.cos(angle), radius * math.sin(angle)))
    return points


# EVOLVE-BLOCK-END
