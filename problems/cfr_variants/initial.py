"""Updates regrets and policies of counterfactual regret minimisation."""

import numpy as np


# EVOLVE-BLOCK-START
def update(regrets, memory, instant, legal, iteration):
    """Returns the new regrets, a memory, weights of the next policy, and that of the last one."""
    keep, exploration, power = 1.0, 0.02, 0.0
    regrets = keep * regrets + instant
    weights = np.maximum(regrets, 0.0) + exploration * legal
    share = float(iteration) ** power
    return regrets, memory, weights, share


# EVOLVE-BLOCK-END
