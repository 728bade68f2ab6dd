"""Gives priorities to vectors for a greedy cap set."""

# EVOLVE-BLOCK-START
# What a vector with so many coordinates 0, and with so many coordinates 2, is worth.
ZEROS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
TWOS = (0.0, -0.02, -0.04, -0.06, -0.08, -0.1, -0.12, -0.14, -0.16)


def priority(vector, n):
    """Returns a number; vectors with higher ones are added first."""
    return ZEROS[vector.count(0)] + TWOS[vector.count(2)]


# EVOLVE-BLOCK-END
