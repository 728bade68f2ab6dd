"""Finds the medians of all windows of a series."""

import numpy as np


# EVOLVE-BLOCK-START
def rolling_median(values, window):
    """Returns the median of each stretch of neighbouring values, a few windows at a time."""
    at_once = 3  # tune: 1 .. 1000 log
    middle = window // 2
    medians = []
    for start in range(0, len(values) - window + 1, at_once):
        part = values[start : start + window - 1 + at_once]
        windows = np.lib.stride_tricks.sliding_window_view(part, window)
        medians.extend(np.sort(windows, axis=1)[:, middle])
    return medians


# EVOLVE-BLOCK-END
