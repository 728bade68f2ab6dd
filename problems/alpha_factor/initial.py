"""Ranks assets by a factor made of their past."""

import numpy as np


# EVOLVE-BLOCK-START
def standardise(values):
    """Returns numbers of mean 0 and standard deviation 1."""
    return (values - values.mean()) / (values.std() + 1e-12)


def factor(close, volume, book):
    """Returns one number for each asset: those that fell in the last weeks come first."""
    short, long, skip = 15, 55, 2
    fall_weight, trend_weight, volume_weight = 1.0, 0.02, 0.02
    prices, traded = np.log(close), np.log(volume)
    fall = prices[-short] - prices[-1]
    trend = prices[-skip] - prices[-long]
    busy = traded[-short:].mean(axis=0) - traded.mean(axis=0)
    return (
        fall_weight * standardise(fall)
        + trend_weight * standardise(trend)
        + volume_weight * standardise(busy)
    )


# EVOLVE-BLOCK-END
