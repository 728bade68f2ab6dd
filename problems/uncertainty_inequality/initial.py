"""Gives factors of Hermite polynomials."""


# EVOLVE-BLOCK-START
def coefficients(count):
    """Gives the factors of H_0, H_4, H_8 and so on."""
    first, second, falloff = 1.0, -0.02, 0.01
    values = [first]
    factor = second
    for _ in range(count - 1):
        values.append(factor)
        factor *= falloff
    return values


# EVOLVE-BLOCK-END
