"""Estimates the present value of a signal beneath noise."""

import numpy as np


# EVOLVE-BLOCK-START
def smooth(window, preference):
    """Returns the mean of the last samples; of more, the smoother it is to be."""
    fewest, more = 6.0, 2.0
    decay = 1.0
    count = min(max(int(fewest + more * preference), 1), len(window))
    weights = decay ** np.arange(count)[::-1]
    return float((window[-count:] * weights).sum() / weights.sum())


# EVOLVE-BLOCK-END
