"""Gives priorities to vectors for a greedy cap set."""


# EVOLVE-BLOCK-START
def priority(vector, n):
    """Gives a number; vectors with higher ones are added first."""
    zero_weight, two_weight, start = 0.0, -1.0, 0.0
    score = start
    for i in range(n):
        if vector[i] == 0:
            score += zero_weight
        elif vector[i] == 2:
            score += two_weight
    return score


# EVOLVE-BLOCK-END
