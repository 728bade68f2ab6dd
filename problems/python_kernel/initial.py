"""Finds the medians of all windows of a series."""

import statistics


# EVOLVE-BLOCK-START
def rolling_median(values, window):
    """Gives the median of each stretch of neighbouring values."""
    values = list(values)
    medians = []
    for start in range(len(values) - window + 1):
        part = values[start : start + window]
        medians.append(statistics.median(part))
    return medians


# EVOLVE-BLOCK-END
