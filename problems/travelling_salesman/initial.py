"""Raises edges of a tour for a guided local search."""

import numpy as np


# EVOLVE-BLOCK-START
def penalize(lengths, uses):
    """Returns the amount by which each edge is raised: the longest ones by a little."""
    amount, share, fade = 0.02, 0.95, 1.0
    longest = share * np.max(lengths)
    return np.where(lengths >= longest, amount / (1.0 + fade * uses), 0.0)


# EVOLVE-BLOCK-END
