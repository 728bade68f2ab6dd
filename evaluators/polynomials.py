"""Real roots of polynomials with rational coefficients, isolated exactly."""

from __future__ import annotations

import itertools
from fractions import Fraction

# Lowest power first.
Polynomial = list[Fraction]

_WIDTH = Fraction(1, 1 << 120)


def find_last_sign_change(polynomial: Polynomial) -> Fraction | None:
    """Returns the largest positive place where a polynomial changes its sign, rounded up.

    Roots of even multiplicity are no changes. The result is too large by less than 2 ** -120;
    None where there is no such place.
    """
    chain = _sturm_chain(_odd_part(_trim(polynomial)))
    low, high = Fraction(0), _bound_roots(chain[0])
    if _count_changes(chain, low) == _count_changes(chain, high):
        return None
    while high - low > _WIDTH:
        middle = (low + high) / 2
        if _count_changes(chain, middle) > _count_changes(chain, high):
            low = middle
        else:
            high = middle
    return high


def measure_degree(polynomial: Polynomial) -> int:
    """Returns the largest power whose factor is not 0."""
    return len(_trim(polynomial)) - 1


def _odd_part(polynomial: Polynomial) -> Polynomial:
    """Returns the product of the roots of odd multiplicity, each once (Yun 1976)."""
    product: Polynomial = [Fraction(1)]
    common = _greatest_divisor(polynomial, _derive(polynomial))
    rest, multiplicity = _divide(polynomial, common)[0], 1
    while len(rest) > 1:
        repeated = _greatest_divisor(rest, common)
        if multiplicity % 2:
            product = _multiply(product, _divide(rest, repeated)[0])
        rest, common = repeated, _divide(common, repeated)[0]
        multiplicity += 1
    return product


def _sturm_chain(polynomial: Polynomial) -> list[Polynomial]:
    chain = [polynomial, _derive(polynomial)]
    while any(chain[-1]):
        remainder = _divide(chain[-2], chain[-1])[1]
        chain.append([-value for value in remainder])
    return chain[:-1]


def _count_changes(chain: list[Polynomial], place: Fraction) -> int:
    signs = [value > 0 for value in (_evaluate(part, place) for part in chain) if value]
    return sum(a != b for a, b in itertools.pairwise(signs))


def _bound_roots(polynomial: Polynomial) -> Fraction:
    """Returns a number beyond all roots (Cauchy), a power of 2."""
    ratio = max((abs(value / polynomial[-1]) for value in polynomial), default=Fraction(0))
    return Fraction(2 ** (int(ratio) + 2).bit_length())


def _evaluate(polynomial: Polynomial, place: Fraction) -> Fraction:
    value = Fraction(0)
    for factor in reversed(polynomial):
        value = value * place + factor
    return value


def _derive(polynomial: Polynomial) -> Polynomial:
    return _trim([power * value for power, value in enumerate(polynomial)][1:])


def _multiply(first: Polynomial, second: Polynomial) -> Polynomial:
    product = [Fraction(0)] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            product[i + j] += a * b
    return product


def _divide(above: Polynomial, below: Polynomial) -> tuple[Polynomial, Polynomial]:
    rest = list(above)
    quotient = [Fraction(0)] * max(len(above) - len(below) + 1, 1)
    for power in range(len(above) - len(below), -1, -1):
        factor = rest[power + len(below) - 1] / below[-1]
        quotient[power] = factor
        for index, value in enumerate(below):
            rest[power + index] -= factor * value
    return _trim(quotient), _trim(rest[: max(len(below) - 1, 1)])


def _greatest_divisor(first: Polynomial, second: Polynomial) -> Polynomial:
    while any(second):
        first, second = second, _divide(first, second)[1]
    return [value / first[-1] for value in first]


def _trim(polynomial: Polynomial) -> Polynomial:
    size = len(polynomial)
    while size > 1 and not polynomial[size - 1]:
        size -= 1
    return polynomial[:size] or [Fraction(0)]
