"""Packs items that arrive one after the other into as few bins as possible."""

import numpy as np


# EVOLVE-BLOCK-START
def priority(item, bins):
    """Returns a priority for each bin; the item goes into the bin with the highest.

    Bins that would have about the wanted room left are preferred, those that would have an
    awkward room left, neither little nor much, are avoided.
    """
    wanted = 20.0  # tune: 0 .. 100
    little, much, penalty = 2.0, 10.0, 25.0  # tune: 0 .. 20, 0 .. 60, 1 .. 100 log
    left = bins - item
    is_awkward = (left > little) & (left < much)
    return -np.abs(left - wanted) - penalty * is_awkward


# EVOLVE-BLOCK-END
