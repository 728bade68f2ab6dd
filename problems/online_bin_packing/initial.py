"""Packs items that arrive one after the other into as few bins as possible."""

import numpy as np


# EVOLVE-BLOCK-START
def priority(item, bins):
    """Gives a priority for each bin; the item goes into the bin with the highest.

    Bins that would have about the wanted room left are preferred.
    """
    wanted = 20.0
    left = bins - item
    return -np.abs(left - wanted)


# EVOLVE-BLOCK-END
