"""Decomposes matrix multiplication: the usual method, but for some cubes of 2 by 2 by 2.

Those are multiplied by Strassen's method (Strassen 1969, Gaussian elimination is not optimal),
which saves one of eight products.
"""

STRASSEN = (
    # Factors of a11, a12, a21, a22, of b11 to b22, and of c11 to c22.
    ((1, 0, 0, 1), (1, 0, 0, 1), (1, 0, 0, 1)),
    ((0, 0, 1, 1), (1, 0, 0, 0), (0, 0, 1, -1)),
    ((1, 0, 0, 0), (0, 1, 0, -1), (0, 1, 0, 1)),
    ((0, 0, 0, 1), (-1, 0, 1, 0), (1, 0, 1, 0)),
    ((1, 1, 0, 0), (0, 0, 0, 1), (-1, 1, 0, 0)),
    ((-1, 0, 1, 0), (1, 1, 0, 0), (0, 0, 0, 1)),
    ((0, 1, 0, -1), (0, 0, 1, 1), (1, 0, 0, 0)),
)


# EVOLVE-BLOCK-START
def decompose(rows, inner, columns):
    """Returns the factors (left, right, out) of every product."""
    cubes = 0
    sizes = ((rows, inner), (inner, columns), (rows, columns))
    corners = [
        (i, k, j)
        for i in range(0, rows - 1, 2)
        for k in range(0, inner - 1, 2)
        for j in range(0, columns - 1, 2)
    ][:cubes]
    done = set()
    terms = []
    for i, k, j in corners:
        places = ((i, k), (k, j), (i, j))
        terms += [
            [spread(*part) for part in zip(factors, places, sizes, strict=True)]
            for factors in STRASSEN
        ]
        done |= {(i + a, k + b, j + c) for a in (0, 1) for b in (0, 1) for c in (0, 1)}
    for i in range(rows):
        for k in range(inner):
            for j in range(columns):
                if (i, k, j) not in done:
                    places = ((i, k), (k, j), (i, j))
                    terms.append([unit(*part) for part in zip(places, sizes, strict=True)])
    return tuple([term[side] for term in terms] for side in range(3))


def spread(factors, place, size):
    """Returns the entries of a 2 by 2 block at a place of a matrix, as one vector."""
    vector = [0] * (size[0] * size[1])
    for index, factor in enumerate(factors):
        vector[(place[0] + index // 2) * size[1] + place[1] + index % 2] = factor
    return vector


def unit(place, size):
    """Returns one entry of a matrix, as a vector of zeros with a 1."""
    return [int(index == place[0] * size[1] + place[1]) for index in range(size[0] * size[1])]


# EVOLVE-BLOCK-END
