"""Fourth stage: models that learn from some rows and answer for others."""

import numpy as np


def train(known, targets, unknown):
    """Returns a list of models' answers, each a weight for every class and row of `unknown`."""
    return [nearest_mean(known, targets, unknown)]


def nearest_mean(known, targets, unknown):
    """Weighs classes by the distance of a row from their mean."""
    sharpness = 0.5
    answers = np.zeros((len(unknown), 10))
    for label in range(10):
        mean = known[targets == label].mean(axis=0)
        distances = np.abs(unknown - mean).sum(axis=1)
        answers[:, label] = np.exp(-sharpness * distances)
    return answers
