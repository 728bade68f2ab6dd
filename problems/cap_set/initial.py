"""Gives priorities to vectors for a greedy cap set."""

# EVOLVE-BLOCK-START
# What a vector with so many coordinates 0, and with so many coordinates 2, is worth.
ZEROS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
TWOS = (0.0, -0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8)


def priority(vector, n):
    """Gives a number; vectors with higher ones are added first."""
    return ZEROS[vector.count(0)] + TWOS[vector.count(2)]


# EVOLVE-BLOCK-END
