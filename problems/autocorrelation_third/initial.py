"""Gives a step function: a bowl with a few waves."""

import math


# EVOLVE-BLOCK-START
def heights(steps):
    """Returns the heights of the steps from left to right."""
    bowl, power, lift = 0.1, 2.0, 1.0
    waves = [0.0, 0.0, 0.0, 0.0]
    values = []
    for i in range(steps):
        x = (2.0 * i + 1.0) / steps - 1.0
        value = lift + bowl * abs(x) ** power
        for k, wave in enumerate(waves):
            value += wave * math.cos(math.pi * (k + 1) * x)
        values.append(value)
    return values


# EVOLVE-BLOCK-END
