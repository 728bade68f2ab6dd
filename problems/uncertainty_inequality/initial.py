"""Gives factors of Hermite polynomials."""


# EVOLVE-BLOCK-START
def coefficients(count):
    """Returns the factors of H_0, H_4, H_8 and so on."""
    values = [1.0, -0.02, -0.0002]
    return (values + [0.0] * count)[:count]


# EVOLVE-BLOCK-END
