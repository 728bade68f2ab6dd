"""Places points in space: a spiral on a sphere."""

import math


# EVOLVE-BLOCK-START
def place(count, dimensions):
    """Returns a row of coordinates for each point."""
    turn, start, flatness, swell = 2.4, 0.0, 1.0, 0.0
    low, high = -0.9, 0.9
    points = []
    for i in range(count):
        z = low + (high - low) * i / (count - 1)
        radius = math.sqrt(max(1.0 - z * z, 0.0)) + swell * math.cos(3.0 * i)
        angle = start + turn * i
        points.append((radius * math.cos(angle), radius * math.sin(angle), flatness * z))
    return points


# EVOLVE-BLOCK-END
