"""Decomposes matrix multiplication: the usual method, and a short random walk from it.

Two products with a common factor can exchange parts without changing their sum; when a factor
becomes 0, one multiplication is saved.
"""

import random


# EVOLVE-BLOCK-START
def decompose(rows, inner, columns):
    """Gives the factors (left, right, out) of every product."""
    seed, steps, largest = 1, 1500, 1
    rng = random.Random(seed)
    terms = use_definition(rows, inner, columns)
    for _ in range(steps):
        flip(terms, rng, largest)
    return tuple([term[side] for term in terms] for side in range(3))


def use_definition(rows, inner, columns):
    """Gives one product for each pair of entries that the definition multiplies."""
    terms = []
    for i in range(rows):
        for k in range(inner):
            for j in range(columns):
                left = unit(rows * inner, i * inner + k)
                right = unit(inner * columns, k * columns + j)
                terms.append([left, right, unit(rows * columns, i * columns + j)])
    return terms


def unit(size, place):
    """Gives a vector of zeros with a 1 at one place."""
    return [int(index == place) for index in range(size)]


def flip(terms, rng, largest):
    """Lets two products with a common factor exchange parts: a(b + b')c + ab'(c' - c)."""
    first, second = rng.sample(range(len(terms)), 2)
    side = rng.randrange(3)
    if terms[first][side] != terms[second][side]:
        return
    add, take = rng.sample([other for other in range(3) if other != side], 2)
    grown = [x + y for x, y in zip(terms[first][add], terms[second][add], strict=True)]
    shrunk = [x - y for x, y in zip(terms[second][take], terms[first][take], strict=True)]
    if max(map(abs, grown + shrunk)) > largest:
        return
    terms[first][add], terms[second][take] = grown, shrunk
    for index in sorted((first, second), reverse=True):
        if any(not any(factor) for factor in terms[index]):
            terms.pop(index)


# EVOLVE-BLOCK-END
