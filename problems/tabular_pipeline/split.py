"""Second stage: which fold each known row belongs to."""

import numpy as np


def split(targets):
    """Returns the number of a fold for each row; every row is predicted once from the others."""
    return np.arange(len(targets)) % 3
