"""Gives a step function: a bowl with a few waves."""

import math


# EVOLVE-BLOCK-START
def heights(steps):
    """Returns the heights of the steps from left to right."""
    bowl, power = 0.1, 2.0
    waves = [0.0, 0.0, 0.0, 0.0]
    values = []
    for i in range(steps):
        x = (2.0 * i + 1.0) / steps - 1.0
        value = 1.0 + bowl * abs(x) ** power
        for k, wave in enumerate(waves):
            value += wave * math.sin(math.pi * (k + 1) * x)
        values.append(max(value, 0.0))
    return values


# EVOLVE-BLOCK-END
