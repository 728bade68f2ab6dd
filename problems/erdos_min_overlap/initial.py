"""Gives a step function with the integral 1: a bump with a few waves."""

import math


# EVOLVE-BLOCK-START
def shape(x):
    """Returns the height at a place from -1 to 1, before it is made to have the right sum."""
    level, bump, power = 0.45, 0.1, 2.0
    waves = [0.0, 0.0, 0.0, 0.0]
    value = level + bump * (1.0 - abs(x) ** power)
    for k, wave in enumerate(waves):
        value += wave * math.cos(math.pi * (k + 1) * x)
    return value


def heights(steps):
    """Returns the heights of the steps from left to right."""
    values = [shape((2.0 * i + 1.0) / steps - 1.0) for i in range(steps)]
    low, high = -3.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2.0
        moved = [min(max(value + middle, 0.0), 1.0) for value in values]
        if sum(moved) < steps / 2.0:
            low = middle
        else:
            high = middle
    return moved


# EVOLVE-BLOCK-END
