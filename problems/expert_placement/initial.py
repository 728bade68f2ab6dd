"""Places copies of experts on GPUs: now and then anew, the busiest twice."""

import numpy as np


# EVOLVE-BLOCK-START
def place(history, previous, step):
    """Returns the expert of each slot, one row for each GPU."""
    period, window, extra = 20, 8, 2
    if step % period != 1 % period:
        return previous
    load = history[-window:].mean(axis=0)
    gpus, slots = previous.shape
    copies = np.ones(len(load), dtype=int)
    busiest = np.argsort(-load)[:extra]
    for index in range(gpus * slots - len(load)):
        copies[busiest[index % len(busiest)]] += 1
    queue = np.repeat(np.arange(len(load)), copies)
    return queue.reshape(slots, gpus).T


# EVOLVE-BLOCK-END
