"""Fourth stage: models that learn from some rows and answer for others."""

import numpy as np


def train(known, targets, unknown):
    """Gives a list of models' answers, each one column with a number for every row of `unknown`."""
    return [neighbours(known, targets, unknown)]


def neighbours(known, targets, unknown):
    """Averages the targets of the nearest known rows."""
    count = 5
    answers = np.zeros((len(unknown), 1))
    for index, row in enumerate(unknown):
        distances = np.abs(known - row).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[:count]
        answers[index, 0] = targets[nearest].mean()
    return answers
